//! Identities of files and topics: an output must be neither an input nor another output of the run.
//!
//! A run that reads its own output would never end, and two outputs of one run would overwrite each other.

use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_run::run::io::Io;
use evt_run::storage::access;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The identity of an input or output. Devices, sockets and terminals have none, because a run cannot read from them
/// what it wrote to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An existing file or FIFO; equal for all links to it.
    Inode {
        /// The device.
        device: u64,
        /// The inode.
        inode: u64,
    },
    /// A file that does not exist yet, a topic, or standard output that is not a file.
    Name(PathBuf),
}

impl Identity {
    /// Returns the identity of the file that `path` leads to; `None` for a device or socket.
    pub fn of_path(path: &Path) -> Option<Self> {
        match std::fs::metadata(path) {
            Ok(found) => Self::of(&found),
            Err(_) => {
                let path = target(path);
                let directory = access::parent(&path).canonicalize().ok()?;
                Some(Self::Name(directory.join(path.file_name()?)))
            }
        }
    }

    /// Returns the identity of the directory that `path` leads to, whose missing parents a run would create.
    pub fn of_directory(path: &Path) -> Option<Self> {
        if let Ok(found) = std::fs::metadata(path) {
            return Some(Self::Inode { device: found.dev(), inode: found.ino() });
        }
        let parent = access::parent(path);
        let above = match parent.canonicalize() {
            Ok(above) => above,
            Err(_) if parent == path => return None,
            Err(_) => match Self::of_directory(parent)? {
                Self::Name(above) => above,
                Self::Inode { .. } => return None,
            },
        };
        Some(Self::Name(above.join(path.file_name()?)))
    }

    /// Returns the identity of the file that standard output is connected to, or of the name `-`.
    pub fn of_output(io: &Io) -> Self {
        io.stdout_metadata().and_then(|found| Self::of(&found)).unwrap_or_else(|| Self::Name("-".into()))
    }

    /// Returns the identities of an input: several for several topics, none for a store or the HTTP server.
    fn of_input(input: &Uri, io: &Io) -> Vec<Self> {
        match input {
            Uri::Standard => io.stdin_metadata().and_then(|found| Self::of(&found)).into_iter().collect(),
            Uri::File(path) => Self::of_path(path).into_iter().collect(),
            Uri::Bucket(objects) => vec![Self::of_object(&objects.to_string())],
            Uri::Kafka(address) => address.topics.iter().map(|topic| Self::of_topic(&address.brokers, topic)).collect(),
            _ => vec![],
        }
    }

    /// Returns the identity of an object.
    pub fn of_object(name: &str) -> Self {
        Self::Name(name.into())
    }

    /// Returns the identity of a topic. Compares brokers by name only: two names of one broker give two identities.
    pub fn of_topic(brokers: &str, topic: &str) -> Self {
        Self::Name(format!("kafka://{brokers}/{topic}").into())
    }

    fn of(found: &Metadata) -> Option<Self> {
        (found.is_file() || found.file_type().is_fifo())
            .then(|| Self::Inode { device: found.dev(), inode: found.ino() })
    }
}

/// The identities of the inputs and outputs of a run.
#[derive(Default)]
pub struct Identities {
    inputs: Vec<Identity>,
    outputs: Vec<Identity>,
}

impl Identities {
    /// Creates the identities of the inputs of a run, without outputs.
    pub fn inputs(inputs: &[Uri], io: &Io) -> Self {
        Self { inputs: inputs.iter().flat_map(|input| Identity::of_input(input, io)).collect(), outputs: vec![] }
    }

    /// Whether `identity` is that of an input.
    pub fn is_input(&self, identity: Option<&Identity>) -> bool {
        identity.is_some_and(|identity| self.inputs.contains(identity))
    }

    /// Adds an output. Errors: exit status 2 if it is an input or another output.
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

/// Returns the path of the file that is written if `path` is opened: follows symbolic links, even to a file that does
/// not exist.
pub fn target(path: &Path) -> PathBuf {
    let leads_to = std::fs::metadata(path);
    match (std::fs::read_link(path), leads_to) {
        (Ok(_), Ok(found)) if found.is_file() => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        // Terminates: a cycle of links fails with another error than `NotFound`.
        (Ok(link), Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            target(&access::parent(path).join(link))
        }
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn all_names_of_a_file_are_one_identity_even_before_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "").unwrap();
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::hard_link(path("a"), path("hard")).unwrap();
        symlink("a", path("soft")).unwrap();
        symlink("new", path("dangling")).unwrap();
        let same = |a: &str, b: &str| Identity::of_path(&path(a)) == Identity::of_path(&path(b));
        for other in ["hard", "soft", "sub/../a"] {
            assert!(same("a", other), "{other}");
        }
        assert!(same("new", "dangling") && same("new", "sub/../new"), "a file that a run will create");
        assert!(!same("a", "new") && !same("new", "sub/new"));
        assert_eq!(target(&path("dangling")), path("new"));
        for device in ["/dev/null", "/dev/zero"] {
            assert_eq!(Identity::of_path(Path::new(device)), None, "{device}");
        }
    }

    #[test]
    fn an_output_is_no_input_and_no_other_output() {
        let input = Uri::parse("kafka://b:9092/in?end=latest", &Default::default()).unwrap();
        let mut all = Identities::inputs(&[input], &Io::Process);
        let topic = |brokers: &str, name: &str| Some(Identity::of_topic(brokers, name));
        assert!(all.is_input(topic("b:9092", "in").as_ref()));
        let error = all.output("o", topic("b:9092", "in")).unwrap_err();
        assert!(error.to_string().contains("also an input"), "{error}");
        all.output("o", topic("b:9092", "out")).unwrap();
        all.output("p", topic("c:9092", "out")).unwrap();
        let error = all.output("q", topic("b:9092", "out")).unwrap_err();
        assert!(error.to_string().contains("q: duplicate output"), "{error}");
        all.output("null:", None).unwrap();
        all.output("null:", None).unwrap();
    }
}
