//! Opens the registry that `--schemas` names: a directory or a server.

use super::Registry;
use super::confluent::{Confluent, can_be_subject};
use super::directory::Directory;
use crate::client::Caller;
use crate::client::Location;
use evt_core::error::{Error, Result};
use evt_core::parse::query::{self, unescaped};
use evt_core::schema::subject::Schemas;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Opens the registry at `text`: `http(s)://[USER:PASSWORD@]HOST[/BASE][?OPTIONS]`, or a directory.
pub fn open(text: &str, caller: &Caller) -> Result<Box<dyn Registry>> {
    match server(text, caller)? {
        Some(server) => Ok(Box::new(server)),
        None => Ok(Box::new(directory(text, caller)?)),
    }
}

/// Opens the registry for callers with full subject names.
///
/// Errors: exit status 2 if the address would change subject names.
pub fn open_plain(text: &str, caller: &Caller) -> Result<Box<dyn Registry>> {
    check_plain(text, caller)?;
    open(text, caller)
}

/// Checks that the address does not change subject names.
///
/// Errors: exit status 2 if it does.
pub fn check_plain(text: &str, caller: &Caller) -> Result<()> {
    let Some(location) = address(text, caller)? else { return Ok(()) };
    match ["subject", "topic"].iter().find(|name| location.options.contains_key(**name)) {
        Some(name) => Err(Error::usage(format!("{location}: remove {name}=; the subject is given by its full name"))),
        None => Ok(()),
    }
}

/// Checks that the registry at `text` may have the subject. The path of a request cannot have every name.
///
/// Errors: exit status 2 if it cannot.
pub fn check_subject(text: &str, subject: &str, caller: &Caller) -> Result<()> {
    match address(text, caller)? {
        Some(location) if !can_be_subject(subject) => {
            Err(Error::usage(format!("{location}: a registry over HTTP cannot have the subject '{subject}'")))
        }
        _ => Ok(()),
    }
}

/// Opens the directory `text`.
pub fn directory(text: &str, caller: &Caller) -> Result<Directory> {
    let secrets = &caller.console.secrets;
    Directory::open(secrets.reveal(&secrets.conceal(text)?))
}

/// Checks that the registry at `text` is available; returns its name, without secrets.
pub fn check(text: &str, caller: &Caller) -> Result<String> {
    open(text, caller)?.check()?;
    name(text, caller)
}

/// Checks that the schemas in the directory `text` are valid, those of one subject or all. Does nothing for a server,
/// which checks its schemas itself.
///
/// Errors: exit status 78 for a file that is no schema, 74 if it cannot be read.
pub fn check_files(text: &str, subject: Option<&str>, caller: &Caller) -> Result<()> {
    if address(text, caller)?.is_some() {
        return Ok(());
    }
    let mut directory = directory(text, caller)?;
    let subjects = subject.map_or_else(|| directory.subjects(), |only| Ok(vec![only.to_owned()]))?;
    subjects.iter().try_for_each(|subject| directory.subject(subject).map(drop))
}

/// Waits until the registry at `text` is available, as long as its `retry=` says.
pub fn wait(text: &str, caller: &Caller) -> Result<()> {
    server(text, caller)?.map_or(Ok(()), |server| server.wait())
}

/// Returns the name of the registry at `text`, without secrets.
pub fn name(text: &str, caller: &Caller) -> Result<String> {
    Ok(address(text, caller)?.map_or_else(|| text.to_owned(), |location| location.to_string()))
}

/// Opens the server at `text`; `None` for a directory.
pub fn server(text: &str, caller: &Caller) -> Result<Option<Arc<Confluent>>> {
    address(text, caller)?.map(|location| Confluent::open(&location).map(Arc::new)).transpose()
}

/// Opens the server for requests of clients that retry themselves: an unanswered request fails at once.
pub fn server_for_clients(text: &str, caller: &Caller) -> Result<Option<Arc<Confluent>>> {
    let opened = address(text, caller)?.map(|location| Confluent::open(&location));
    Ok(opened.transpose()?.map(|server| Arc::new(server.without_retry())))
}

/// Opens the server at `text`.
///
/// Errors: exit status 2 for a directory.
pub fn server_only(text: &str, caller: &Caller) -> Result<Arc<Confluent>> {
    let no_server = || Error::usage(format!("{text}: expected a registry at http:// or https://"));
    server(text, caller)?.ok_or_else(no_server)
}

/// Parses the address of a server; `None` if it is not one. The values of `{env:NAME}` are not parsed.
fn address(text: &str, caller: &Caller) -> Result<Option<Location>> {
    let secrets = &caller.console.secrets;
    let text = &secrets.conceal(text)?;
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
        return Ok(None);
    };
    let (path, options) = query::split_after("--schemas", rest)?;
    let path = secrets.reveal_encoded(path);
    let (scheme, slashes, is_remote) = (scheme.to_owned(), true, true);
    let mut location = Location { scheme, slashes, is_remote, path, options: BTreeMap::new(), caller: caller.clone() };
    for (name, value) in options {
        let value = unescaped(&value).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| Error::usage(format!("{location}: {name}: expected a value")))?;
        location.options.insert(name, secrets.reveal(&value));
    }
    Ok(Some(location))
}
