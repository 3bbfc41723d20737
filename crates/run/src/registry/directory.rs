//! A registry that is a directory: `DIR/SUBJECT/VERSION.avsc`, and the levels in `DIR/levels.toml`.
//!
//! ```text
//! schemas/levels.toml              default = "BACKWARD"        (also without the file)
//!                                  [subjects]
//!                                  purchase = "FULL_TRANSITIVE"
//! schemas/purchase/1.avsc          versions count from 1; gaps are allowed
//! schemas/purchase/2.avsc
//! schemas/repo%2Fpush/1.avsc       the subject `repo/push`
//! ```
//!
//! A subject's directory is its name with every byte but ASCII letters, digits, `-`, `_`, `.` written `%XX`, a leading
//! dot too; so no name leaves the directory or is hidden in it. Entries that begin with a dot are skipped; any other
//! name that does not have this form is an error, because ignoring a schema without notice would be worse.
//!
//! A version is written once, under a hidden name, and renamed without replacing another: of two concurrent registrars
//! one wins, the other lists again. An existing file is never changed.

use super::{Registration, Registry, conflicts};
use crate::storage::disk::failed;
use evt_core::error::{Error, Result};
use evt_core::parse::query::unescaped;
use evt_core::schema::AVRO;
use evt_core::schema::level::Level;
use evt_core::schema::subject::{Lookup, Schemas, Subject, Version, schema_id};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All ASCII characters but letters, digits and `-_.`.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Name of the file with the levels.
pub const LEVELS_FILE: &str = "levels.toml";
/// Maximum bytes of a file name on the usual file systems.
const FILE_NAME_BYTES_MAX: usize = 255;
/// Maximum attempts after another registrar took the number.
const ATTEMPTS_MAX: usize = 100;

/// An open directory registry.
pub struct Directory {
    dir: PathBuf,
    levels: Levels,
    known: HashMap<String, Arc<Subject>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelsFile {
    default: Option<String>,
    #[serde(default)]
    subjects: BTreeMap<String, String>,
}

#[derive(Default)]
struct Levels {
    default: Level,
    subjects: BTreeMap<String, Level>,
}

impl Directory {
    /// Opens the registry in `dir` and reads its levels.
    ///
    /// Errors: exit status 78 if `dir` does not exist, or has schemas outside of the directories of subjects; 74 if it
    /// cannot be read.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Directory> {
        let dir = dir.into();
        if !dir.is_dir() {
            let message = match dir.exists() {
                true => "expected a directory of schemas, found a file; for DIR/SUBJECT/1.avsc give DIR",
                false => "the schema directory does not exist",
            };
            return Err(Error::config(format!("{}: {message}", dir.display())));
        }
        check_files(&dir)?;
        let levels = Levels::read(&dir.join(LEVELS_FILE))?;
        Ok(Directory { dir, levels, known: HashMap::new() })
    }

    /// Writes a version; false if another registrar has written it in the meantime.
    fn write(&self, subject: &str, number: u32, text: &str) -> Result<bool> {
        let dir = self.subject_dir(subject)?;
        std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let path = dir.join(format!("{number}.avsc"));
        let readable = std::fs::Permissions::from_mode(0o644);
        let mut part = tempfile::Builder::new()
            .prefix(&format!(".{number}."))
            .suffix(".part")
            .permissions(readable)
            .tempfile_in(&dir)
            .map_err(failed(&dir))?;
        let line_end = if text.ends_with('\n') { "" } else { "\n" };
        let written = part.write_all(text.as_bytes()).and_then(|()| part.write_all(line_end.as_bytes()));
        written.and_then(|()| part.as_file().sync_all()).map_err(failed(&path))?;
        match part.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == IoErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(failed(&path)(error.error)),
        }
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed(&dir))?;
        Ok(true)
    }

    fn subject_dir(&self, subject: &str) -> Result<PathBuf> {
        let name = file_name_of(subject);
        if name.is_empty() || name.len() > FILE_NAME_BYTES_MAX {
            let why = format!("subject '{subject}': expected a file name of 1 to {FILE_NAME_BYTES_MAX} bytes");
            return Err(Error::config(why));
        }
        Ok(self.dir.join(name))
    }

    fn numbers(&self, subject: &str) -> Result<Vec<u32>> {
        let dir = self.subject_dir(subject)?;
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), IoErrorKind::NotFound | IoErrorKind::NotADirectory) => {
                return Ok(vec![]);
            }
            Err(error) => return Err(failed(&dir)(error)),
        };
        let mut numbers = vec![];
        for entry in entries {
            let name = entry.map_err(failed(&dir))?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let Some(number) = name.to_str().and_then(number_of) else {
                let why = format!("{}: expected versions named 1.avsc, 2.avsc, …", dir.join(name).display());
                return Err(Error::config(why));
            };
            numbers.push(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&self, subject: &str, number: u32) -> Result<Version> {
        let path = self.subject_dir(subject)?.join(format!("{number}.avsc"));
        let text = read_text(&path)?;
        let schema = (AVRO.parse)(&text).map_err(|e| e.at(path.display().to_string()))?;
        Ok(Version { number, id: schema_id(subject, number), schema, text: text.into() })
    }
}

impl Registry for Directory {
    fn subjects(&mut self) -> Result<Vec<String>> {
        let mut subjects = vec![];
        for entry in std::fs::read_dir(&self.dir).map_err(failed(&self.dir))? {
            let entry = entry.map_err(failed(&self.dir))?;
            let name = entry.file_name();
            if !entry.path().is_dir() || name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match name.to_str().and_then(subject_of) {
                Some(subject) if self.numbers(&subject)?.is_empty() => {}
                Some(subject) => subjects.push(subject),
                None => return Err(not_a_subject(&entry.path())),
            }
        }
        subjects.sort_unstable();
        Ok(subjects)
    }

    fn level(&mut self, subject: &str) -> Result<Level> {
        Ok(self.levels.subjects.get(subject).copied().unwrap_or(self.levels.default))
    }

    fn register(&mut self, subject: &str, text: &str) -> Result<Registration> {
        let schema = (AVRO.parse)(text)?;
        let identity = schema.identity();
        for _ in 0..ATTEMPTS_MAX {
            let current = self.subject(subject)?.found();
            let versions = current.as_ref().map_or(&[][..], |subject| &subject.versions);
            if let Some(same) = versions.iter().rev().find(|version| version.schema.identity() == identity) {
                return Ok(Registration::Existing(same.number));
            }
            let conflicts = conflicts(schema.as_ref(), versions, self.level(subject)?);
            if !conflicts.is_empty() {
                return Ok(Registration::Refused { conflicts, said: None });
            }
            let number = versions.last().map_or(0, |version| version.number).saturating_add(1);
            if self.write(subject, number, text)? {
                return Ok(Registration::Added(number));
            }
        }
        Err(Error::unavailable(format!("subject '{subject}': too many concurrent registrations")))
    }
}

impl Schemas for Directory {
    /// Lists the subject's directory each time; each file is read once.
    fn subject(&mut self, name: &str) -> Result<Lookup> {
        // An event's type may be any text; one that cannot be a file name is unknown.
        let Ok(_) = self.subject_dir(name) else { return Ok(Lookup::Unknown) };
        let numbers = self.numbers(name)?;
        if numbers.is_empty() {
            self.known.remove(name);
            return Ok(Lookup::Unknown);
        }
        let known = self.known.get(name);
        if let Some(known) = known.filter(|known| known.has_versions(&numbers)) {
            return Ok(Lookup::Found(known.clone()));
        }
        let kept = |number: u32| known.and_then(|known| known.version(number).cloned());
        let read = |number: u32| kept(number).map_or_else(|| self.read(name, number), Ok);
        let versions = numbers.into_iter().map(read).collect::<Result<_>>()?;
        let subject = Arc::new(Subject { name: name.to_owned(), versions });
        self.known.insert(name.to_owned(), subject.clone());
        Ok(Lookup::Found(subject))
    }
}

impl Levels {
    fn read(path: &Path) -> Result<Levels> {
        if !path.exists() {
            return Ok(Levels::default());
        }
        let bad = |why: String| Error::config(format!("{}: {why}", path.display()));
        let file: LevelsFile =
            toml::from_str(&read_text(path)?).map_err(|e| bad(String::new()).because(e.message()))?;
        let level = |word: &str| {
            let words: Vec<&str> = Level::ALL.iter().map(|level| level.name()).collect();
            Level::from_name(word).ok_or_else(|| bad(format!("unknown level '{word}'; expected {}", words.join(" "))))
        };
        let subjects = file.subjects.iter().map(|(name, word)| Ok((name.clone(), level(word)?)));
        Ok(Levels {
            default: file.default.as_deref().map_or(Ok(Level::default()), level)?,
            subjects: subjects.collect::<Result<_>>()?,
        })
    }
}

/// Reads a text file, no longer than a schema may be.
fn read_text(path: &Path) -> Result<String> {
    read_schema(File::open(path), &path.display().to_string())
}

/// Reads the text of a schema, no longer than one may be, from a file shown as `shown`.
pub fn read_schema(opened: std::io::Result<impl Read>, shown: &str) -> Result<String> {
    let mut text = String::new();
    let limit = AVRO.text_bytes_max;
    match opened.and_then(|file| file.take(limit as u64 + 1).read_to_string(&mut text)) {
        Ok(length) if length > limit => Err(Error::config(format!("{shown}: longer than {} KiB", limit >> 10))),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == IoErrorKind::InvalidData => Err(Error::config(format!("{shown}: invalid UTF-8"))),
        Err(error) => Err(Error::io(shown, &error)),
    }
}

/// Checks that no schema stands beside the directories of subjects.
fn check_files(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(stem) = name.strip_suffix(".avsc").filter(|stem| !stem.is_empty() && path.is_file()) else { continue };
        let place = dir.join(file_name_of(stem)).join("1.avsc");
        let why =
            format!("expected directories of subjects, found the schema {name}; rename it to {}", place.display());
        return Err(Error::config(why).at(dir.display().to_string()));
    }
    Ok(())
}

fn not_a_subject(path: &Path) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let remedy = format!("rename it to '{}', or give it a leading dot", file_name_of(&name));
    Error::config(format!("{}: not the directory of a subject; {remedy}", path.display()))
}

/// Returns the version number of a file name.
fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".avsc")?;
    let number: u32 = digits.parse().ok()?;
    (number > 0 && number.to_string() == digits).then_some(number)
}

/// Returns the name of a subject's directory, which does not begin with a dot.
fn file_name_of(subject: &str) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, &ESCAPED).to_string();
    match subject.strip_prefix('.') {
        Some(rest) => format!("%2E{}", escaped(rest)),
        None => escaped(subject),
    }
}

/// Returns the subject of a directory name; `None` if no subject has it.
fn subject_of(name: &str) -> Option<String> {
    unescaped(name).filter(|subject| file_name_of(subject) == name)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
