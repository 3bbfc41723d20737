//! TLS of the clients that speak HTTP: the machine's certificates, or those of a file.

use crate::error::{Error, Result};
use crate::store::remote::use_ring;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Configures TLS with the certificates of the PEM file `ca`, else with the machine's.
///
/// Errors: exit status 78 if the file cannot be read or has no certificate.
pub fn tls(ca: Option<&str>) -> Result<TlsConfig> {
    use_ring();
    let certificates = match ca {
        None => {
            let native = rustls_native_certs::load_native_certs().certs;
            native.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
        }
        Some(path) => {
            let wrong = || Error::config(format!("ca={path}"));
            let bytes = std::fs::read(path).map_err(|error| wrong().because(error))?;
            let items = parse_pem(&bytes).collect::<Result<Vec<_>, _>>().map_err(|error| wrong().because(error))?;
            let certificate = |item| if let PemItem::Certificate(one) = item { Some(one) } else { None };
            let found: Vec<_> = items.into_iter().filter_map(certificate).collect();
            match found.is_empty() {
                true => return Err(wrong().because("expected a PEM certificate")),
                false => found,
            }
        }
    };
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}
