//! The name of a file in a URI.

use std::ops::Deref;
use std::path::{Path, PathBuf};

/// The path of a file, and how output shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// The path, with the values of its placeholders.
    pub path: PathBuf,
    /// The path with its placeholders, if it has any.
    pub(super) shown: Option<String>,
}

impl Deref for FileName {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for FileName {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl<T: Into<PathBuf>> From<T> for FileName {
    fn from(path: T) -> Self {
        Self { path: path.into(), shown: None }
    }
}
