//! TLS of the HTTP server: its certificate and key.

use crate::address::Address;
use evt_core::error::{Error, Result};
use evt_run::client::tls::pem_fault;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Certificate and key, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// `--tls-cert`: the certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// `--tls-key`.
    pub key: PathBuf,
}

/// Makes the TLS acceptor; `None` for http://. Errors: exit status 2 if flags and scheme contradict each other, 78 if
/// the files are invalid.
pub fn acceptor(address: &Address, tls: Option<&Tls>) -> Result<Option<TlsAcceptor>> {
    let tls = match (tls, address.tls) {
        (Some(tls), true) => tls,
        (None, false) => return Ok(None),
        (Some(_), false) => {
            let host = &address.host;
            return Err(Error::usage(format!("{address}: --tls-cert requires https://{host}")));
        }
        (None, true) => {
            return Err(Error::usage(format!("{address}: https:// requires --tls-cert and --tls-key")));
        }
    };
    let unread = |path: &PathBuf| Error::config(format!("{}: expected a PEM certificate or key", path.display()));
    let chain: Vec<_> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unread(&tls.certificate).because(pem_fault(error)))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unread(&tls.key).because(pem_fault(error)))?;
    let wrong = |error: rustls::Error| {
        Error::config(format!("{}: unusable certificate", tls.certificate.display())).because(error)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(wrong)?.with_no_client_auth().with_single_cert(chain, key).map_err(wrong)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
