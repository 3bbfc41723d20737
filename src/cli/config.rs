//! `--config FILE`: flags in a TOML file, for all tools at the top and for one tool in its section.
//!
//! A value becomes the default of its flag: the command line and the environment override it, and clap parses it like
//! any value. A key that no tool has is refused with its line, because a misspelled key must not be ignored.

use super::usage::sentence;
use crate::error::{Error, Result};
use clap::builder::OsStr;
use clap::error::ErrorKind as Clap;
use clap::{Arg, ArgAction, Command};
use std::collections::BTreeMap;
use std::ops::Range;
use strsim::levenshtein;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The flags of all tools, one `evt-x: one two three` per line, tested against the tools themselves, so that each tool
/// checks a shared file completely.
const FLAGS: &str = include_str!("flags.txt");

/// Flags that cannot be settings.
pub const NO_SETTINGS: [&str; 3] = ["config", "help", "version"];

/// Returns the flags of a tool; `None` if there is no such tool.
fn flags_of(tool: &str) -> Option<Vec<&'static str>> {
    let line = FLAGS.lines().find_map(|line| line.strip_prefix(tool)?.strip_prefix(": "))?;
    Some(line.split(' ').collect())
}

/// The settings of one tool in a file.
#[derive(Debug)]
pub struct Config {
    path: String,
    settings: BTreeMap<String, Setting>,
}

#[derive(Debug)]
struct Setting {
    line: usize,
    value: Value,
}

/// The value of a key.
#[derive(Debug, PartialEq)]
enum Value {
    Switch(bool),
    Texts(Vec<String>),
}

impl Config {
    /// Reads the settings of `tool` in `path`.
    ///
    /// Errors: exit status 78 if the file cannot be read or has a key that no tool has.
    pub fn read(path: &str, tool: &str) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let cause = Error::io(path, &error).to_string();
            Error::config(format!("--config {cause}"))
        })?;
        Self::parse(&text, path, tool)
    }

    fn parse(text: &str, path: &str, tool: &str) -> Result<Self> {
        let line = |span: Range<usize>| 1 + text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count();
        let at = |error: Error, line: usize| error.at(format!("{path}:{line}"));
        let table = DeTable::parse(text)
            .map_err(|error| at(Error::config(error.message().to_owned()), line(error.span().unwrap_or_default())))?;
        let (mut settings, mut own) = (BTreeMap::new(), BTreeMap::new());
        let tools: Vec<&str> = FLAGS.lines().filter_map(|line| line.split_once(':')).map(|(tool, _)| tool).collect();
        let of_tool = flags_of(tool).unwrap_or_default();
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            let Some(section) = value.get_ref().as_table() else {
                let all: Vec<&str> = tools.iter().filter_map(|tool| flags_of(tool)).flatten().collect();
                known(name, "key", &all).map_err(|error| at(error, line(key.span())))?;
                let setting = setting(name, value, line(key.span())).map_err(|error| at(error, line(key.span())))?;
                if of_tool.contains(&name) {
                    settings.insert(name.to_owned(), setting);
                }
                continue;
            };
            known(name, "section", &tools).map_err(|error| at(error, line(key.span())))?;
            for (key, value) in section {
                let flag = key.get_ref().as_ref();
                known(flag, "key", &flags_of(name).unwrap_or_default())
                    .map_err(|error| at(error.because(format!("in [{name}]")), line(key.span())))?;
                let setting = setting(flag, value, line(key.span())).map_err(|error| at(error, line(key.span())))?;
                if name == tool {
                    own.insert(flag.to_owned(), setting);
                }
            }
        }
        settings.extend(own);
        Ok(Self { path: path.to_owned(), settings })
    }

    /// Returns the setting of a flag that takes one text.
    pub fn text(&self, flag: &str) -> Option<&str> {
        match &self.settings.get(flag)?.value {
            Value::Texts(texts) => texts.first().map(String::as_str),
            Value::Switch(_) => None,
        }
    }

    /// Returns the command with these settings as its defaults.
    ///
    /// Errors: exit status 78 if a value is invalid for its flag.
    pub fn apply(&self, command: Command) -> Result<Command> {
        let mut command = self.apply_here(command)?;
        let names: Vec<String> = command.get_subcommands().map(|action| action.get_name().to_owned()).collect();
        for name in names {
            let action = command.find_subcommand(&name).cloned().unwrap_or_default();
            let action = self.apply_here(action)?;
            command = command.mut_subcommand(&name, |_| action);
        }
        Ok(command)
    }

    fn apply_here(&self, command: Command) -> Result<Command> {
        let flags: Vec<Arg> = command.get_arguments().cloned().collect();
        for arg in &flags {
            let Some((name, setting)) = arg.get_long().and_then(|long| self.settings.get_key_value(long)) else {
                continue;
            };
            check(&command, arg, setting)
                .map_err(|why| Error::config(format!("{name}: {why}")).at(format!("{}:{}", self.path, setting.line)))?;
        }
        Ok(command.mut_args(|arg| match arg.get_long().and_then(|long| self.settings.get(long)) {
            // The required value is given; the default is hidden because it may be a secret.
            Some(setting) => {
                let takes_values = arg.get_action().takes_values();
                arg.required(false).hide_default_value(takes_values).default_values(setting.value.texts())
            }
            None => arg,
        }))
    }
}

impl Value {
    fn texts(&self) -> Vec<OsStr> {
        match self {
            Self::Switch(on) => vec![OsStr::from(on.to_string())],
            Self::Texts(texts) => texts.iter().map(OsStr::from).collect(),
        }
    }
}

/// Refuses a name that is not in `all`, and suggests the nearest one.
fn known(name: &str, what: &str, all: &[&str]) -> Result<()> {
    let candidates = all.iter().filter(|flag| !NO_SETTINGS.contains(flag));
    if candidates.clone().any(|flag| *flag == name) {
        return Ok(());
    }
    let nearest = candidates.min_by_key(|flag| levenshtein(name, flag));
    Err(Error::config(match nearest {
        Some(nearest) if levenshtein(name, nearest) <= 3 => format!("unknown {what} '{name}'; did you mean {nearest}?"),
        _ => {
            let mut all = all.to_vec();
            all.sort_unstable();
            all.dedup();
            format!("unknown {what} '{name}'; expected one of {}", all.join(" "))
        }
    }))
}

fn setting(name: &str, value: &Spanned<DeValue<'_>>, line: usize) -> Result<Setting> {
    let wrong = || Error::config(format!("{name}: expected a string, a number, true, false or a list of strings"));
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Datetime(instant) => Ok(instant.to_string()),
        _ => Err(wrong()),
    };
    let value = match value.get_ref() {
        DeValue::Boolean(on) => Value::Switch(*on),
        DeValue::Array(values) => Value::Texts(values.iter().map(|value| one(value.get_ref())).collect::<Result<_>>()?),
        other => Value::Texts(vec![one(other)?]),
    };
    Ok(Setting { line, value })
}

/// Checks that the flag accepts the value as if it had been typed.
fn check(command: &Command, arg: &Arg, setting: &Setting) -> Result<(), String> {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let texts = match (&setting.value, is_switch) {
        (Value::Switch(_), true) => return Ok(()),
        (Value::Texts(_), true) => return Err("expected true or false".to_owned()),
        (Value::Switch(_), false) => return Err("expected a string".to_owned()),
        (Value::Texts(texts), false) => texts,
    };
    let takes_many = matches!(arg.get_action(), ArgAction::Append);
    if texts.len() != 1 && !takes_many {
        return Err("expected one value, found a list".to_owned());
    }
    for text in texts {
        let flag = format!("--{}={text}", arg.get_long().unwrap_or_default());
        match command.clone().try_get_matches_from([command.get_name().to_owned(), flag]) {
            Err(error) if matches!(error.kind(), Clap::ValueValidation | Clap::InvalidValue) => {
                return Err(sentence(&error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config> {
        Config::parse(text, "evt.toml", "evt-window")
    }

    #[test]
    fn a_section_beats_the_top_and_what_is_of_others_is_left_to_them() {
        let config = parsed("pipeline = 'a'\nttl = '1h'\n[evt-window]\npipeline = 'b'\n[evt-sink]\npipeline = 'c'\n");
        let config = config.unwrap();
        assert_eq!(config.text("pipeline"), Some("b"));
        assert_eq!(config.settings.len(), 1, "--ttl is none of evt-window's");
    }

    #[test]
    fn what_no_tool_knows_is_refused_with_its_line_and_what_is_nearest() {
        for (text, told) in [
            ("\nmax-recrod = '1MiB'", "evt.toml:2: unknown key 'max-recrod'; did you mean max-record?"),
            ("[evt-windows]\n", "evt.toml:1: unknown section 'evt-windows'; did you mean evt-window?"),
            ("[evt-sink]\nsize = '1m'", "evt.toml:2: unknown key 'size'"),
            ("config = 'x'", "evt.toml:1: unknown key 'config'"),
            ("a = \n", "evt.toml:1: "),
            ("quiet = { a = 1 }", "evt.toml:1: unknown section 'quiet'"),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Config);
            assert!(error.to_string().starts_with(told), "{error}\n{told}");
        }
    }
}
