//! Which file a name means: an output must be no input and no other output. A run that reads what it writes has no end,
//! and two writers of one run do not know of each other.

use crate::error::{Error, Result};
use crate::store::room;
use crate::uri::Uri;
use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What can be told apart. Devices, sockets and terminals have none: what is written there does not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A file or a FIFO that is there: device and inode, whatever leads to it.
    Inode(u64, u64),
    /// A file that is not there yet, a store, or standard output that is no file.
    Name(PathBuf),
}

impl Identity {
    /// What `path` leads to.
    pub fn of_path(path: &Path) -> Option<Self> {
        match std::fs::metadata(path) {
            Ok(found) => Self::of(&found),
            Err(_) => {
                let path = target(path);
                let directory = room::parent(&path).canonicalize().ok()?;
                Some(Self::Name(directory.join(path.file_name()?)))
            }
        }
    }

    /// What a standard stream is joined to.
    fn of_stream(stream: impl AsFd) -> Option<Self> {
        Self::of(&File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok()?)
    }

    /// What standard output is joined to, or its name.
    pub fn of_output() -> Self {
        Self::of_stream(std::io::stdout()).unwrap_or_else(|| Self::Name("-".into()))
    }

    fn of_input(input: &Uri) -> Vec<Self> {
        match input {
            Uri::Standard => Self::of_stream(std::io::stdin()).into_iter().collect(),
            Uri::File(path) => Self::of_path(path).into_iter().collect(),
            Uri::Kafka(address) => address.topics.iter().map(|topic| Self::of_topic(&address.brokers, topic)).collect(),
            _ => vec![],
        }
    }

    /// A topic; its brokers may have other names, which nobody here knows.
    pub fn of_topic(brokers: &str, topic: &str) -> Self {
        Self::Name(format!("kafka://{brokers}/{topic}").into())
    }

    fn of(found: &Metadata) -> Option<Self> {
        (found.is_file() || found.file_type().is_fifo()).then(|| Self::Inode(found.dev(), found.ino()))
    }
}

/// What a run has named so far.
#[derive(Default)]
pub struct Named {
    inputs: Vec<Identity>,
    outputs: Vec<Identity>,
}

impl Named {
    /// The inputs of a run.
    pub fn inputs(inputs: &[Uri]) -> Self {
        Self { inputs: inputs.iter().flat_map(Identity::of_input).collect(), outputs: vec![] }
    }

    /// Whether this is an input.
    pub fn is_input(&self, identity: Option<&Identity>) -> bool {
        identity.is_some_and(|identity| self.inputs.contains(identity))
    }

    /// Takes one more output; exit 2 where it is an input, or named before.
    pub fn output(&mut self, name: &str, identity: Option<Identity>) -> Result<()> {
        if self.is_input(identity.as_ref()) {
            return Err(Error::usage(format!("{name}: also an input; the run would read its own output")));
        }
        let Some(identity) = identity else { return Ok(()) };
        if self.outputs.contains(&identity) {
            return Err(Error::usage(format!("{name}: duplicate output")));
        }
        self.outputs.push(identity);
        Ok(())
    }
}

/// The file that is written where `path` is: the one a link leads to, whether it is there or not.
pub fn target(path: &Path) -> PathBuf {
    let leads_to = std::fs::metadata(path);
    match (std::fs::read_link(path), leads_to) {
        (Ok(_), Ok(found)) if found.is_file() => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        // The chain ends somewhere: one that does not is another error.
        (Ok(link), Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            target(&room::parent(path).join(link))
        }
        _ => path.to_owned(),
    }
}
