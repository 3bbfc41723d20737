//! Credentials that output must not show.

use std::fmt;

/// A text that output must not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Keys of Amazon that do not expire, or only with their session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The id of the key.
    pub access_key: String,
    /// The secret of the key.
    pub secret_key: Hidden,
    /// The token of temporary credentials.
    pub session_token: Option<Hidden>,
}
