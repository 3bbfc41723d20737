//! TLS for clients and servers: trusted certificates, and the implementation that all libraries use.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// Configures clients with the certificates of a PEM file, else with those of the machine. Errors: why the file cannot
/// be read or has no certificate.
pub fn client_config(certificates: Option<&str>) -> Result<ClientConfig, String> {
    use_ring();
    let mut roots = RootCertStore::empty();
    match certificates {
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(pem_fault)? {
                roots.add(certificate.map_err(pem_fault)?).map_err(|error| error.to_string())?;
            }
            if roots.is_empty() {
                return Err("expected a PEM certificate".to_owned());
            }
        }
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Describes why a PEM file cannot be read: the words of the library list the bytes of a line as numbers.
pub fn pem_fault(error: pem::Error) -> String {
    let text = |line: &[u8]| String::from_utf8_lossy(line).trim_end().to_owned();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("missing line -----END {}-----", text(&end_marker))
        }
        pem::Error::IllegalSectionStart { line } => format!("invalid line '{}'", text(&line)),
        other => other.to_string(),
    }
}

/// Selects ring as the TLS implementation of all libraries.
pub fn use_ring() {
    // It fails if another part of the program has already done this.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
