//! `gs://`: Google Cloud Storage.

use super::keys::Hidden;
use super::store::{Cloud, CloudStore, one_attempt};
use crate::bucket::http::BucketHttp;
use crate::bucket::parts::{self, AddressParts, CloudAddress};
use evt_core::error::{Error, Result};
use object_store::gcp::GoogleCloudStorageBuilder;
use std::sync::Arc;

/// Options of an address.
pub const OPTIONS: [&str; 6] = ["endpoint", "credentials", "connect", "timeout", "retry", "ca"];
/// The credentials, in the message that they are missing.
pub const CREDENTIALS: &str = "credentials (GOOGLE_APPLICATION_CREDENTIALS, or credentials=FILE)";
/// The server of Google.
const SERVER: &str = "https://storage.googleapis.com";

/// A server with credentials.
#[derive(Clone, Debug)]
pub struct Google {
    /// The server; `None` for that of Google, or of the file of credentials.
    pub endpoint: Option<String>,
    /// A file with the key of a service account.
    pub account: Option<String>,
    /// The key itself.
    pub key: Option<Hidden>,
    /// The file of the application, of any type. Without it object_store finds that of gcloud(1), then the role of the
    /// machine.
    pub application: Option<String>,
}

/// Parses what an address and the environment say. Errors: exit status 2 for a wrong endpoint.
pub fn parse(parts: AddressParts<'_>) -> Result<CloudAddress<Google>> {
    let endpoint = parts.value("endpoint", &[]).map(|text| parts::endpoint(&text, false));
    let endpoint = endpoint.transpose().map_err(|fault| parts.at(Error::usage(fault)))?;
    let account = parts.value("credentials", &[]);
    let key = parts.first(&["GOOGLE_SERVICE_ACCOUNT_KEY"]).filter(|_| account.is_none()).map(Hidden);
    let of_environment = || parts.first(&["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"]);
    let account = account.or_else(|| of_environment().filter(|_| key.is_none()));
    let application = parts.first(&["GOOGLE_APPLICATION_CREDENTIALS"]);
    let server = parts::authority(endpoint.as_deref().unwrap_or(SERVER));
    let cloud = Google { endpoint, account, key, application };
    Ok(CloudAddress { cloud, server, written: parts.written })
}

impl Cloud for Google {
    fn connect(&self, bucket: &str, http: BucketHttp) -> object_store::Result<Arc<dyn CloudStore>> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(bucket)
            .with_retry(one_attempt())
            .with_http_connector(http);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        if let Some(account) = &self.account {
            builder = builder.with_service_account_path(account);
        }
        if let Some(Hidden(key)) = &self.key {
            builder = builder.with_service_account_key(key);
        }
        if let Some(application) = &self.application {
            builder = builder.with_application_credentials(application);
        }
        Ok(Arc::new(builder.build()?))
    }

    fn credentials(&self) -> &'static str {
        CREDENTIALS
    }

    fn fetches_credentials(&self) -> bool {
        true
    }
}
