//! URIs, which name every input and output.
//!
//! [`Uri::parse`] reads one without opening anything: [`evt_kafka::address`] and [`evt_http::address`] parse their own
//! schemes, stores are found by scheme in [`evt_store::ALL`]; `file` is the name of a file, and `origin` normalizes its
//! path. [`readable`] opens what can be read as bytes.
//!
//! ```text
//! text ─► Uri::parse ─┬─► File, Standard, Null   a path, `-`, `null:`
//!                     ├─► Store                  a scheme of the table of stores, with its options
//!                     ├─► Bucket                 an object, a prefix or a pattern, with options
//!                     ├─► Kafka                  brokers, topics, options
//!                     └─► Http                   the address of the listener
//! ```
//!
//! A path may have any bytes. An unknown scheme, an unknown option or a wrong value is exit status 2, before anything
//! is opened. Messages show a URI without its passwords.

mod file;
mod origin;
pub mod readable;

use evt_core::error::{Error, Result};
use evt_core::parse::query;
use evt_run::bucket::address::{SCHEMES as BUCKETS, is_address};
use evt_run::bucket::objects::NamedObjects;
use evt_run::client::Caller;
use evt_run::client::Location;
use evt_run::run::io::Io;
use evt_run::secret::without_placeholders;
use evt_store::Store;
pub use file::FileName;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A parsed URI.
#[derive(Clone)]
pub enum Uri {
    /// `-`: standard input or output.
    Standard,
    /// `null:`: output is discarded.
    Null,
    /// A path, or `file:PATH`.
    File(FileName),
    /// A listener of the HTTP server: an input of evt-ingest.
    Http(evt_http::address::Address),
    /// Kafka topics.
    Kafka(Box<evt_kafka::address::Address>),
    /// Objects of a bucket, which are read like files.
    Bucket(Box<NamedObjects>),
    /// A store and its location.
    Store(&'static Store, Location),
}

/// Schemes that are not stores.
const SCHEMES: [&str; 4] = ["null", "kafka", "http", "https"];
/// Schemes of future versions, for the error message.
const LATER: [&str; 1] = ["delta"];

impl Uri {
    /// Whether it is a pipe, a FIFO or a device: it has no beginning to which a later run returns.
    pub fn is_pipe(&self, io: &Io) -> bool {
        match self {
            Uri::Standard => !io.stdin_metadata().is_some_and(|found| found.is_file()),
            // The fault of a file that is missing comes when it is opened.
            Uri::File(name) => std::fs::metadata(&name.path).is_ok_and(|found| !found.is_file()),
            _ => false,
        }
    }

    /// Whether nothing is read that was written before it is open: a server that listens, or a topic from its end.
    pub fn begins_when_open(&self) -> bool {
        match self {
            Uri::Http(_) => true,
            Uri::Kafka(topics) => topics.options.start == Some(evt_kafka::address::Bound::Latest),
            _ => false,
        }
    }

    /// Parses a URI that this run uses. A file name may hold any bytes. Errors: exit status 2 for an unknown scheme or
    /// option, 78 if the value of a placeholder is missing.
    pub fn parse(text: impl AsRef<OsStr>, caller: &Caller) -> Result<Self> {
        match text.as_ref().to_str() {
            Some(text) => Self::parse_text(text, caller),
            None => Self::parse_bytes(text.as_ref()),
        }
    }

    /// Parses bytes that are not UTF-8: only a file name may be.
    fn parse_bytes(name: &OsStr) -> Result<Self> {
        let bytes = name.as_bytes();
        if let Some(path) = bytes.strip_prefix(b"file:") {
            let path = path.strip_prefix(b"//").unwrap_or(path);
            return Ok(Uri::File(FileName::from(OsStr::from_bytes(path))));
        }
        let scheme = bytes.iter().position(|byte| *byte == b':').and_then(|end| str::from_utf8(&bytes[..end]).ok());
        match scheme
            .filter(|scheme| is_scheme(scheme) && (SCHEMES.contains(scheme) || evt_store::by_scheme(scheme).is_some()))
        {
            Some(scheme) => {
                let shown = name.to_string_lossy();
                Err(Error::usage(format!(
                    "{shown}: expected UTF-8 after {scheme}:; only file names may be other bytes"
                )))
            }
            None => Ok(Uri::File(name.into())),
        }
    }

    fn parse_text(text: &str, caller: &Caller) -> Result<Self> {
        if text == "-" {
            return Ok(Uri::Standard);
        }
        if text.is_empty() {
            return Err(Error::usage("expected a path or URI, found an empty name"));
        }
        // The value of a placeholder is never parsed as syntax.
        let secrets = &caller.console.secrets;
        if is_address(text) {
            return Ok(Uri::Bucket(Box::new(NamedObjects::parse(text, caller)?)));
        }
        let text = secrets.conceal(text)?;
        let text = text.as_str();
        let path = |path: &str| {
            let (revealed, shown) = (secrets.reveal(path), secrets.named(path));
            let shown = (revealed != shown).then_some(shown);
            Uri::File(FileName { path: revealed.into(), shown })
        };
        let Some((scheme, rest)) = split_scheme(text) else { return Ok(path(text)) };
        match scheme {
            "null" if rest.is_empty() => Ok(Uri::Null),
            "null" => Err(Error::usage(format!("expected null:, found {text}"))),
            "kafka" => Ok(Uri::Kafka(Box::new(evt_kafka::address::Address::parse(rest, secrets)?))),
            "http" | "https" => Ok(Uri::Http(evt_http::address::Address::parse(scheme, rest)?)),
            "file" => Ok(path(rest.strip_prefix("//").unwrap_or(rest))),
            _ => match evt_store::by_scheme(scheme) {
                Some(store) => Ok(Uri::Store(store, location(store, scheme, rest, caller)?)),
                None if Path::new(&secrets.reveal(text)).exists() => Ok(path(text)),
                None => Err(unknown(text, scheme)),
            },
        }
    }

    /// Returns `SCHEME:NAME` if the path NAME, with or without options (`metrics.db?table=NAME`), is a file that is a
    /// store, such as a SQLite database; for inputs that may be several tables.
    pub fn name_of_database(text: &OsStr, caller: &Caller) -> Option<String> {
        let Ok(Uri::File(path)) = Uri::parse(text, caller) else { return None };
        let name = path.to_str().filter(|name| !name.contains('{'))?;
        let store = named_store(&path)?;
        let mut start = vec![0; store.magic.len()];
        std::fs::File::open(file_of(&path)).and_then(|mut file| file.read_exact(&mut start)).ok()?;
        (start == store.magic).then(|| format!("{}:{name}", store.scheme))
    }

    /// Parses the URI of an input. A file that is a SQLite database is its store, unless `has_format`: a flag sets the
    /// format.
    pub fn of_input(text: &OsStr, has_format: bool, caller: &Caller) -> Result<Self> {
        let uri = match Self::name_of_database(text, caller).filter(|_| !has_format) {
            Some(name) => Self::parse(name, caller)?,
            None => Self::parse(text, caller)?,
        };
        match &uri {
            Uri::Kafka(address) if address.exactly_once => {
                Err(Error::usage(format!("{address}: exactly_once= is an option of outputs only")))
            }
            _ => Ok(uri),
        }
    }

    /// Parses the URI of an output. A file with the extension of a store, with or without options, is that store.
    /// Errors: exit status 2 for an unknown option, or one of inputs.
    pub fn of_output(text: impl AsRef<OsStr>, caller: &Caller) -> Result<Self> {
        let uri = Self::parse(text, caller)?;
        let store = match &uri {
            Uri::File(path) => named_store(path).zip(path.to_str()),
            _ => None,
        };
        let uri = match store {
            Some((store, name)) => Uri::Store(store, location(store, store.scheme, name, caller)?),
            None => uri,
        };
        match &uri {
            // The kind of the rows decides which table they are written to.
            Uri::Store(_, location) if location.options.contains_key("table") => {
                Err(Error::usage(format!("{location}: table= is an option of inputs only")))
            }
            _ => Ok(uri),
        }
    }

    /// Adds an option to the text of a URI. A question mark in a placeholder (`{file:PATH}`) does not begin options.
    pub fn add_option(text: &mut OsString, name: &str, value: &str) {
        let syntax = without_placeholders(&text.to_string_lossy());
        text.push(format!("{}{name}={value}", query::separator(&syntax)));
    }

    /// Returns the origin of events from this input. The origin of a file does not depend on how its path is written.
    pub fn origin(&self) -> String {
        match self {
            Uri::File(name) => {
                origin::of_path(name.shown.as_ref().map_or(name.as_os_str().as_bytes(), |shown| shown.as_bytes()))
            }
            Uri::Bucket(objects) => origin::of_object(&objects.to_string()),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uri::Standard => f.write_str("-"),
            Uri::Null => f.write_str("null:"),
            Uri::File(name) => f.write_str(name.shown.as_deref().unwrap_or(&name.to_string_lossy())),
            Uri::Http(address) => write!(f, "{address}"),
            Uri::Kafka(address) => write!(f, "{address}"),
            Uri::Bucket(objects) => write!(f, "{objects}"),
            Uri::Store(_, location) => location.fmt(f),
        }
    }
}

/// Splits a URI behind its scheme; `None` for a path. Before `//` a scheme may have upper-case letters, which no scheme
/// has: it is a mistake then, and not the name of a directory.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let is_uri = |scheme: &str, rest: &str| {
        is_scheme(scheme) || rest.starts_with("//") && is_scheme(&scheme.to_ascii_lowercase())
    };
    text.split_once(':').filter(|(scheme, rest)| is_uri(scheme, rest))
}

/// Checks that a text is a path, or the URI of one of the schemes that `allowed` has. Errors: what is wrong, for a
/// message that has the text itself.
pub fn check_path(text: &str, allowed: &[&str]) -> std::result::Result<(), String> {
    let Some((scheme, rest)) = split_scheme(text) else { return Ok(()) };
    let is_allowed = rest.starts_with("//") && allowed.contains(&scheme);
    if is_allowed || Path::new(text).exists() {
        return Ok(());
    }
    let lower = scheme.to_ascii_lowercase();
    let why = match evt_store::by_scheme(scheme) {
        _ if allowed.contains(&&*lower) => format!("is written {lower}://"),
        Some(_) => "names no path".to_owned(),
        None if SCHEMES.contains(&scheme) || scheme == "file" => "names no path".to_owned(),
        None => why_unknown(scheme).to_owned(),
    };
    let also: String = allowed.iter().map(|scheme| format!(" {scheme}://")).collect();
    let expected = if also.is_empty() { "a path" } else { "one of PATH" };
    Err(format!("{scheme}: {why}; expected {expected}{also} (for a path write ./{text})"))
}

/// Whether a text is a scheme: a lower-case letter, then at least one more of lower-case letters, digits, `+` and `-`.
/// `C:x` and `10:30.log` are paths.
fn is_scheme(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && !text.contains('.')
}

/// Returns the file that a path names: the path, or what precedes its options if there is no such file.
fn file_of(path: &Path) -> &Path {
    let name = path.to_str().filter(|_| !path.exists());
    name.and_then(|name| name.split_once('?')).map_or(path, |(file, _)| Path::new(file))
}

/// Returns the store that the extension of a file names. The file need not exist yet.
fn named_store(path: &Path) -> Option<&'static Store> {
    let file = file_of(path);
    // A file whose own name has a question mark cannot be named as a store.
    let is_storable = file != path || !path.as_os_str().as_bytes().contains(&b'?');
    let is_regular = || std::fs::metadata(file).map_or(true, |found| found.is_file());
    evt_store::by_extension(file).filter(|_| is_storable && is_regular())
}

fn location(store: &'static Store, scheme: &str, rest: &str, caller: &Caller) -> Result<Location> {
    let (path, options) = match store.is_remote() {
        true => query::split_after(scheme, rest)?,
        false => query::split(rest),
    };
    let bare = path.strip_prefix("//").filter(|path| !path.is_empty());
    let slashes = bare.is_some();
    let path = bare.unwrap_or(path);
    if path.is_empty() {
        return Err(Error::usage(format!("{}: expected {}:PATH, found no path", store.scheme, store.scheme)));
    }
    // After slashes the path is part of a URL, which its client decodes.
    let secrets = &caller.console.secrets;
    let is_remote = store.is_remote();
    let path = if slashes && is_remote { secrets.reveal_encoded(path) } else { secrets.reveal(path) };
    let options = options.into_iter().map(|(name, value)| (name, secrets.reveal(&value))).collect();
    let location = Location { scheme: scheme.to_owned(), slashes, is_remote, path, options, caller: caller.clone() };
    location.check_options(store.scheme, store.options)?;
    Ok(location)
}

fn unknown(text: &str, scheme: &str) -> Error {
    let known: Vec<_> = evt_store::ALL.iter().map(|store| store.scheme).collect();
    let why = why_unknown(scheme);
    Error::usage(format!(
        "{text}: {scheme}: {why}; expected one of - PATH file: null: kafka: s3: gs: az: {}: (for a path write ./{text})",
        known.join(": ")
    ))
}

/// Says why a scheme cannot be used.
fn why_unknown(scheme: &str) -> &'static str {
    match scheme {
        _ if BUCKETS.contains(&scheme) => "objects are inputs and outputs of rows",
        _ if LATER.contains(&scheme) => "is not supported yet",
        _ => "is an unknown scheme",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_run::clock::{Clock, SimulatedClock};
    use evt_run::run::Run;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[test]
    fn paths_dash_and_null_are_told_apart() {
        assert!(matches!(Uri::parse("-", &Caller::default()).unwrap(), Uri::Standard));
        assert!(matches!(Uri::parse("null:", &Caller::default()).unwrap(), Uri::Null));
        for path in ["a.jsonl", "dir/b:c", "C:x", "10:30.log", "file:a.jsonl", "a.b:c"] {
            assert!(matches!(Uri::parse(path, &Caller::default()).unwrap(), Uri::File(_)), "{path}");
        }
    }

    #[test]
    fn an_option_is_added_after_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("what?");
        std::fs::write(&file, "secret?").unwrap();
        let file = file.display();
        for (text, expected) in [
            ("a.db".to_owned(), "a.db?b=1".to_owned()),
            ("a.db?c=2".to_owned(), "a.db?c=2&b=1".to_owned()),
            (format!("redis://:{{file:{file}}}@h/0"), format!("redis://:{{file:{file}}}@h/0?b=1")),
        ] {
            let mut text = OsString::from(text);
            Uri::add_option(&mut text, "b", "1");
            assert_eq!(text.to_str(), Some(&*expected));
        }
    }

    #[test]
    fn a_comma_splits_options_and_the_values_of_one() {
        let options = |text: &str| -> Vec<String> {
            match Uri::parse(text, &Caller::default()) {
                Ok(Uri::Store(_, location)) => {
                    location.options.into_iter().map(|(name, value)| name + "=" + &value).collect()
                }
                _ => vec![],
            }
        };
        assert_eq!(options("parquet:lake?roll=128MiB,10m,mode=append"), ["mode=append", "roll=128MiB,10m"]);
        assert_eq!(options("parquet:lake?mode=append&roll=10m"), ["mode=append", "roll=10m"]);
        assert!(Uri::parse("parquet:lake?bogus", &Caller::default()).is_err());
    }

    #[test]
    fn an_unknown_scheme_is_a_usage_error_that_names_what_exists() {
        for text in ["mysql:x", "delta:b"] {
            let error = Uri::parse(text, &Caller::default()).err().unwrap();
            assert_eq!(error.kind(), evt_core::ErrorKind::Usage);
            assert!(error.to_string().contains("null:"), "{error}");
        }
    }

    #[test]
    fn two_runs_of_a_process_have_stop_signals_and_secrets_of_their_own() {
        let files = ["first-password", "second-password"].map(|text| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file
        });
        let (clock, lines) = (SimulatedClock::default(), Arc::<Mutex<String>>::default());
        let runs = ["evt-one", "evt-two"].map(|tool| {
            let mut run = Run::unwatched(tool, Clock::Simulated(clock.clone()));
            run.console = run.console.captured(&lines);
            run
        });
        let locations = [0, 1].map(|index| {
            let text = format!("redis://:{{file:{}}}@h", files[index].path().display());
            let Ok(Uri::Store(_, location)) = Uri::parse(text, &runs[index].caller()) else { panic!("a store") };
            location
        });
        let waits = locations.each_ref().map(|location| location.timeouts().unwrap().stop.server_wait());
        runs[0].stop.raise(15);
        assert!(!waits[0].is_over());
        clock.advance(Duration::from_secs(10));
        assert_eq!(waits.map(|wait| wait.is_over()), [true, false]);
        runs.iter().for_each(|run| run.console.say("first-password, second-password"));
        let [one, two] = files.map(|file| format!("{{file:{}}}", file.path().display()));
        let wanted = format!("evt-one: {one}, second-password\nevt-two: first-password, {two}\n");
        assert_eq!(*lines.lock().unwrap(), wanted);
        assert_eq!(locations.map(|location| location.path), [":first-password@h", ":second-password@h"]);
    }
}
