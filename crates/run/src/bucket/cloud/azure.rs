//! `az://`: Azure Blob Storage.

use super::keys::Hidden;
use super::store::{Cloud, CloudStore, one_attempt};
use crate::bucket::http::BucketHttp;
use crate::bucket::parts::{self, AddressParts, CloudAddress};
use evt_core::error::{Error, Result};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use std::sync::Arc;

/// Options of an address.
pub const OPTIONS: [&str; 8] = ["endpoint", "account", "access_key", "sas_token", "connect", "timeout", "retry", "ca"];
/// The credentials, in the message that they are missing.
pub const CREDENTIALS: &str = "credentials (AZURE_STORAGE_ACCOUNT_KEY, or access_key=)";

/// The settings that object_store reads, with the variables that have them.
const VARIABLES: [(&str, AzureConfigKey); 10] = [
    ("AZURE_STORAGE_TOKEN", AzureConfigKey::Token),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("AZURE_MSI_ENDPOINT", AzureConfigKey::MsiEndpoint),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
    ("AZURE_OBJECT_ID", AzureConfigKey::ObjectId),
    ("AZURE_MSI_RESOURCE_ID", AzureConfigKey::MsiResourceId),
];

/// An account with credentials.
#[derive(Clone, Debug)]
pub struct Azure {
    /// The storage account.
    pub account: String,
    /// Where the containers of the account are; `None` for Azure's server.
    pub endpoint: Option<String>,
    /// The settings of the credentials; without any, the role of the machine.
    pub settings: Vec<AzureSetting>,
}

/// A setting of the credentials.
#[derive(Clone, Debug)]
pub struct AzureSetting {
    key: AzureConfigKey,
    value: Hidden,
}

/// Parses what an address and the environment say. Errors: exit status 2 for a wrong endpoint or a secret in plain
/// text, 78 if the account is missing.
pub fn parse(parts: AddressParts<'_>) -> Result<CloudAddress<Azure>> {
    parts.check_secrets(&["access_key", "sas_token"])?;
    let endpoint = parts.value("endpoint", &[]).map(|text| parts::endpoint(&text, true));
    let endpoint = endpoint.transpose().map_err(|fault| parts.at(Error::usage(fault)))?;
    let account = parts.value("account", &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]);
    let account = account.ok_or_else(|| parts.missing("an account (account= or AZURE_STORAGE_ACCOUNT_NAME)"))?;
    let of_address = ["access_key", "sas_token"].iter().any(|option| parts.written.contains_key(*option));
    let variables = |names: &'static [&'static str]| if of_address { &[] } else { names };
    let access_key = parts.value("access_key", variables(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"]));
    let sas_token = parts.value("sas_token", variables(&["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"]));
    let setting = |key: AzureConfigKey, value: String| AzureSetting { key, value: Hidden(value) };
    let settings = match (access_key, sas_token) {
        (Some(key), _) => vec![setting(AzureConfigKey::AccessKey, key)],
        (None, Some(token)) => vec![setting(AzureConfigKey::SasKey, token)],
        (None, None) => {
            let found = VARIABLES.iter().filter_map(|(name, key)| Some(setting(*key, parts.first(&[name])?)));
            found.collect()
        }
    };
    let url = endpoint.clone().unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let mut written = parts.written;
    // The environment of another process may name another account.
    written.insert("account".to_owned(), account.clone());
    let cloud = Azure { account, endpoint, settings };
    Ok(CloudAddress { cloud, server: parts::authority(&url), written })
}

impl Cloud for Azure {
    fn connect(&self, bucket: &str, http: BucketHttp) -> object_store::Result<Arc<dyn CloudStore>> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(&self.account)
            .with_container_name(bucket)
            .with_allow_http(true)
            .with_retry(one_attempt())
            .with_http_connector(http);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        for AzureSetting { key, value } in &self.settings {
            builder = builder.with_config(*key, &value.0);
        }
        Ok(Arc::new(builder.build()?))
    }

    fn credentials(&self) -> &'static str {
        CREDENTIALS
    }

    fn fetches_credentials(&self) -> bool {
        !self.settings.iter().any(|setting| matches!(setting.key, AzureConfigKey::AccessKey | AzureConfigKey::SasKey))
    }
}
