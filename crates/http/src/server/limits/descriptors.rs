//! File descriptors: connections get those that nothing else in the process needs.
//!
//! If connections took all of them, neither the spool nor an output could open its next file, and clients with
//! connections that send nothing would stop those of all others.

use evt_core::error::{Error, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors that connections leave to the rest of the process. A run has about 30 of its own: pipes, wake-ups
/// of threads, files of the spool and its lock. Up to 64 are queries of a schema registry, up to 65 the listener of
/// `--prometheus`. Outputs have the others: a connection to each broker of a cluster, files of a lake and a checkpoint.
const RESERVE: u64 = 256;

/// The maximum number of open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// The number.
    pub most: usize,
    /// The name of the limit that it comes from.
    pub set_by: &'static str,
    /// Whether an open connection without a request makes room for a new one; else the new one is refused.
    pub makes_room: bool,
}

impl ConnectionLimit {
    /// The limit of `--max-connections`.
    pub fn of_flag(most: usize) -> Self {
        Self { most, set_by: "--max-connections", makes_room: false }
    }

    /// At most `most` connections beside a run that needs the limit of open files for itself: they take one of `share`
    /// files, and silent ones make room.
    pub fn beside_run(most: usize, share: u64) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / share;
        let most = usize::try_from(files).unwrap_or(most).clamp(1, most);
        Self { most, set_by: "RLIMIT_NOFILE", makes_room: true }
    }

    /// Raises the limit of open files to what these connections need, as far as permitted, and returns how many of them
    /// are possible. Errors: exit status 78 if none is.
    pub fn of_process(self) -> Result<Self> {
        let needed = RESERVE.saturating_add(self.most as u64);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current.is_some_and(|current| current < needed) {
            let current = Some(maximum.map_or(needed, |maximum| maximum.min(needed)));
            // Where this is refused, the present limit stays, which is read below.
            let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
        }
        self.of_files(getrlimit(Resource::Nofile).current)
    }

    /// Returns how many of these connections are possible with this limit of open files; `None` is unlimited.
    fn of_files(self, files: Option<u64>) -> Result<Self> {
        let possible = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVE));
        if possible == 0 {
            let (least, found) = (RESERVE + 1, files.unwrap_or_default());
            return Err(Error::config(format!(
                "expected a limit of at least {least} open files (RLIMIT_NOFILE), found {found}; raise it with \
                 ulimit -n or LimitNOFILE="
            )));
        }
        Ok(match usize::try_from(possible) {
            Ok(possible) if possible < self.most => Self { most: possible, set_by: "RLIMIT_NOFILE", ..self },
            _ => self,
        })
    }

    /// Returns the message that fewer connections are possible than `wanted`; `None` if they are not fewer.
    pub fn notice(self, wanted: usize) -> Option<String> {
        let Self { most, .. } = self;
        let files = RESERVE + most as u64;
        (most < wanted).then(|| {
            format!(
                "at most {most} connections, not {wanted} (--max-connections): the process may open {files} files \
                 (RLIMIT_NOFILE), of which {RESERVE} are kept for the spool and the outputs"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_the_files_that_the_reserve_leaves() {
        let most =
            |wanted, files| ConnectionLimit::of_flag(wanted).of_files(files).map(|limit| (limit.most, limit.set_by));
        assert_eq!(most(4096, None).unwrap(), (4096, "--max-connections"));
        assert_eq!(most(4096, Some(4096 + RESERVE)).unwrap(), (4096, "--max-connections"));
        assert_eq!(most(4096, Some(4095 + RESERVE)).unwrap(), (4095, "RLIMIT_NOFILE"));
        assert_eq!(most(4096, Some(1024)).unwrap(), (768, "RLIMIT_NOFILE"));
        assert_eq!(most(1, Some(RESERVE + 1)).unwrap(), (1, "--max-connections"));
        assert_eq!(most(1, Some(RESERVE)).unwrap_err().kind(), evt_core::error::ErrorKind::Config);
        assert_eq!(most(1, Some(0)).unwrap_err().kind(), evt_core::error::ErrorKind::Config);
    }
}
