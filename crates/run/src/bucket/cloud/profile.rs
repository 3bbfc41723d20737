//! The shared files of Amazon's tools, `~/.aws/config` and `~/.aws/credentials`: a profile has keys, or a role that
//! another profile may take. object_store does not read them.

use super::keys::{Hidden, Keys};
use super::role::Role;
use evt_core::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The settings of a profile that need another program, a browser or a person.
const OTHERS: [&str; 4] = ["sso_session", "sso_start_url", "credential_process", "mfa_serial"];

/// A profile with its settings.
#[derive(Debug)]
pub struct Profile {
    name: String,
    files: SharedFiles,
}

/// What a profile has.
#[derive(Debug)]
pub enum ProfileCredentials {
    /// Its own keys.
    Keys(Keys),
    /// A role, and the keys of another profile.
    Role(Role),
}

/// The settings of all profiles.
#[derive(Debug, Default)]
struct SharedFiles {
    /// Where they were read, for messages.
    shown: String,
    profiles: BTreeMap<String, BTreeMap<String, String>>,
}

/// Reads the profile that `AWS_PROFILE` names, else `default`; `None` if there is no file or no profile `default`.
///
/// Errors: exit status 78 if a file cannot be read, or has no profile of this name.
pub fn find(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Profile>> {
    let named = ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"].iter().find_map(|name| variable(name));
    let named = named.filter(|name| !name.is_empty());
    let files = SharedFiles::read(variable)?;
    let name = named.clone().unwrap_or_else(|| "default".to_owned());
    match files.profiles.contains_key(&name) {
        true => Ok(Some(Profile { name, files })),
        false if named.is_none() => Ok(None),
        false => Err(Error::config(format!("AWS_PROFILE: expected profile {name} in {}, found none", files.shown))),
    }
}

impl SharedFiles {
    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut files = Self::default();
        let home = variable("HOME").map(PathBuf::from);
        for (name, file, is_config) in
            [("AWS_CONFIG_FILE", "config", true), ("AWS_SHARED_CREDENTIALS_FILE", "credentials", false)]
        {
            let usual = || home.as_ref().map(|home| home.join(".aws").join(file));
            let Some(path) = variable(name).map(PathBuf::from).or_else(usual) else { continue };
            let shown = path.display().to_string();
            files.shown += if files.shown.is_empty() { "" } else { " and " };
            files.shown += &shown;
            match std::fs::read_to_string(&path) {
                Ok(text) => files.add(&text, is_config),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::config_file(shown, &error)),
            }
        }
        Ok(files)
    }

    /// Adds the settings of a file. In the file `config` a profile but `default` is `[profile NAME]`.
    fn add(&mut self, text: &str, is_config: bool) {
        let mut profile = None;
        for line in text.lines() {
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            if let Some(head) = bare.strip_prefix('[').and_then(|head| head.split_once(']')) {
                let head = head.0.trim();
                let name = match head.strip_prefix("profile ") {
                    Some(name) if is_config => Some(name.trim()),
                    _ if !is_config || head == "default" => Some(head),
                    // Sections such as [sso-session NAME] are no profiles.
                    _ => None,
                };
                profile = name.map(|name| self.profiles.entry(name.to_owned()).or_default());
            // An indented line continues the setting before it, such as `s3 =`, which evt does not read.
            } else if let (Some(profile), Some((name, value)), false) =
                (&mut profile, bare.split_once('='), line.starts_with(char::is_whitespace))
            {
                // The file `credentials` is read last and decides, as in Amazon's tools.
                profile.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
    }
}

impl Profile {
    /// Returns a setting.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.of(&self.name, name)
    }

    fn of(&self, profile: &str, name: &str) -> Option<&str> {
        self.files.profiles.get(profile)?.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn keys(&self, profile: &str) -> Option<Keys> {
        Some(Keys {
            access_key: self.of(profile, "aws_access_key_id")?.to_owned(),
            secret_key: Hidden(self.of(profile, "aws_secret_access_key")?.to_owned()),
            session_token: self.of(profile, "aws_session_token").map(|token| Hidden(token.to_owned())),
        })
    }

    /// Returns the credentials of the profile; `None` if it has none. Errors: exit status 78 for those that evt cannot
    /// get itself, and for a role without a profile that can take it.
    pub fn credentials(
        &self,
        region: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<ProfileCredentials>> {
        self.check_own(&self.name)?;
        let Some(arn) = self.value("role_arn") else { return Ok(self.keys(&self.name).map(ProfileCredentials::Keys)) };
        let source = self.value("source_profile");
        let Some(source) = source else {
            let found = ["credential_source", "web_identity_token_file"].iter().find(|name| self.value(name).is_some());
            let found = found.map_or("none".to_owned(), |name| (*name).to_owned());
            return Err(self.fault(&self.name, &format!("role_arn: expected source_profile, found {found}")));
        };
        self.check_own(source)?;
        let missing = || self.fault(source, "expected aws_access_key_id and aws_secret_access_key, found none");
        let endpoint = ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"].iter().find_map(|name| variable(name));
        Ok(Some(ProfileCredentials::Role(Role {
            keys: self.keys(source).ok_or_else(missing)?,
            arn: arn.to_owned(),
            session: self.value("role_session_name").unwrap_or("evt").to_owned(),
            external_id: self.value("external_id").map(str::to_owned),
            region: region.to_owned(),
            endpoint: endpoint.unwrap_or_else(|| format!("https://sts.{region}.amazonaws.com")),
        })))
    }

    /// Checks that no other program is needed for the credentials of a profile.
    fn check_own(&self, profile: &str) -> Result<()> {
        match OTHERS.iter().find(|name| self.of(profile, name).is_some()) {
            None => Ok(()),
            Some(name) => Err(self.fault(
                profile,
                &format!(
                    "expected keys or a role, found {name}; run: eval \"$(aws configure export-credentials --profile \
                     {profile} --format env)\""
                ),
            )),
        }
    }

    fn fault(&self, profile: &str, message: &str) -> Error {
        Error::config(format!("profile {profile} of {}: {message}", self.files.shown))
    }
}
