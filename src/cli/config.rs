//! `--config FILE`: flags in a TOML file, for all tools at the top and for one tool in its section.
//!
//! A value becomes the default of its flag: the command line and the environment override it, and clap parses it like
//! any value. evt rejects a key that no tool has, with its line, because it must not ignore a misspelled key.

use super::tool::ToolRow;
use super::usage::sentence;
use clap::builder::OsStr;
use clap::error::ErrorKind as Clap;
use clap::{Arg, ArgAction, Command};
use evt_core::error::{Error, Result};
use evt_core::parse::nearest;
use evt_run::client::CatalogSections;
use evt_run::secret::Secrets;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The section of the catalogs of tables.
const CATALOGS: &str = "catalog";
/// Flags that cannot be settings.
const NO_SETTINGS: [&str; 3] = ["config", "help", "version"];

/// Returns the flags of a tool that can be settings, those of its actions included.
fn flags_of(tool: &ToolRow) -> BTreeSet<String> {
    let command = (tool.command)();
    let args = std::iter::once(&command).chain(command.get_subcommands()).flat_map(Command::get_arguments);
    let names = args.filter_map(Arg::get_long).filter(|name| !NO_SETTINGS.contains(name));
    names.map(str::to_owned).collect()
}

/// The settings of one tool in a file.
#[derive(Debug, Default)]
pub struct Config {
    path: String,
    settings: BTreeMap<String, Setting>,
    catalogs: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug)]
struct Setting {
    line: usize,
    value: ConfigValue,
}

/// The value of a key.
#[derive(Debug, PartialEq)]
enum ConfigValue {
    Switch(bool),
    Texts(Vec<String>),
}

impl Config {
    /// Reads the settings of `tool` in `path`.
    ///
    /// Errors: exit status 78 if the file cannot be read or has a key that none of `tools` has.
    pub fn read(path: &str, tool: &str, tools: &[ToolRow], secrets: &Secrets) -> Result<Self> {
        let failed = |error: std::io::Error| Error::config_file(format!("--config {path}"), &error);
        let text = std::fs::read_to_string(path).map_err(failed)?;
        // Messages may show any key or value of the file.
        text.split(['"', '\'', '\n']).for_each(|text| secrets.remember_password(text));
        Self::parse(&text, path, tool, tools)
    }

    fn parse(text: &str, path: &str, tool: &str, tools: &[ToolRow]) -> Result<Self> {
        let line = |span: Range<usize>| 1 + text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count();
        let at = |error: Error, span: Range<usize>| error.at(format!("{path}:{}", line(span)));
        let table = DeTable::parse(text)
            .map_err(|error| at(Error::config(error.message().to_owned()), error.span().unwrap_or_default()))?;
        let flags: BTreeMap<&str, BTreeSet<String>> = tools.iter().map(|row| (row.name, flags_of(row))).collect();
        let all = flags.values().flatten().map(String::as_str).collect();
        let names = flags.keys().copied().chain([CATALOGS]).collect();
        let (mut settings, mut own, mut catalogs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            let Some(section) = value.get_ref().as_table() else {
                let found = known(name, "key", &all).and_then(|()| setting(name, value, line(key.span())));
                let setting = found.map_err(|error| at(error, key.span()))?;
                if flags.get(tool).is_some_and(|flags| flags.contains(name)) {
                    settings.insert(name.to_owned(), setting);
                }
                continue;
            };
            if name == CATALOGS {
                for (key, value) in section {
                    let found = catalog(key.get_ref(), value).map_err(|error| at(error, key.span()))?;
                    catalogs.insert(key.get_ref().to_string(), found);
                }
                continue;
            }
            known(name, "section", &names).map_err(|error| at(error, key.span()))?;
            let of_section = flags.get(name).into_iter().flatten().map(String::as_str).collect();
            for (key, value) in section {
                let flag = key.get_ref().as_ref();
                let found = known(flag, "key", &of_section).map_err(|error| error.because(format!("in [{name}]")));
                let found = found.and_then(|()| setting(flag, value, line(key.span())));
                let setting = found.map_err(|error| at(error, key.span()))?;
                if name == tool {
                    own.insert(flag.to_owned(), setting);
                }
            }
        }
        settings.extend(own);
        Ok(Self { path: path.to_owned(), settings, catalogs })
    }

    /// Returns the catalogs of tables.
    pub fn into_catalogs(self) -> Arc<CatalogSections> {
        Arc::new(CatalogSections { path: self.path, sections: self.catalogs })
    }

    /// Returns the setting of a flag that takes one text.
    pub fn text(&self, flag: &str) -> Option<&str> {
        match &self.settings.get(flag)?.value {
            ConfigValue::Texts(texts) => texts.first().map(String::as_str),
            ConfigValue::Switch(_) => None,
        }
    }

    /// Returns the command with these settings as its defaults.
    ///
    /// Errors: exit status 78 if a value is invalid for its flag.
    pub fn apply(&self, command: Command) -> Result<Command> {
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            for arg in command.get_arguments() {
                let Some((name, setting)) = arg.get_long().and_then(|long| self.settings.get_key_value(long)) else {
                    continue;
                };
                check(command, arg, setting).map_err(|why| {
                    Error::config(format!("{name}: {why}")).at(format!("{}:{}", self.path, setting.line))
                })?;
            }
        }
        let with_default = |arg: Arg| match arg.get_long().and_then(|long| self.settings.get(long)) {
            // The required value is given; the default is hidden because it may be a secret.
            Some(setting) => {
                let takes_values = arg.get_action().takes_values();
                arg.required(false).hide_default_value(takes_values).default_values(setting.value.texts())
            }
            None => arg,
        };
        Ok(command.mut_args(with_default).mut_subcommands(|action| action.mut_args(with_default)))
    }
}

impl ConfigValue {
    fn texts(&self) -> Vec<OsStr> {
        match self {
            Self::Switch(on) => vec![OsStr::from(on.to_string())],
            Self::Texts(texts) => texts.iter().map(OsStr::from).collect(),
        }
    }
}

/// Refuses a name that is not in `all`, and suggests the nearest one.
fn known(name: &str, what: &str, all: &BTreeSet<&str>) -> Result<()> {
    if all.contains(name) {
        return Ok(());
    }
    let hint = nearest::hint(name, &Vec::from_iter(all.iter().copied()), " ");
    Err(Error::config(format!("unknown {what} '{name}'; {hint}")))
}

/// Reads a section `[catalog.NAME]`, whose keys the catalog checks.
fn catalog(name: &str, value: &Spanned<DeValue<'_>>) -> Result<BTreeMap<String, String>> {
    let section = value.get_ref().as_table();
    let section = section.ok_or_else(|| Error::config(format!("{name}: expected a section [{CATALOGS}.NAME]")))?;
    let pair = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &str = AsRef::<str>::as_ref(key.get_ref());
        let text = value.get_ref().as_str();
        let text = text.ok_or_else(|| Error::config(format!("{CATALOGS}.{name}: {key}: expected a string")))?;
        Ok((key.to_owned(), text.to_owned()))
    };
    section.iter().map(pair).collect()
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
        DeValue::Boolean(on) => ConfigValue::Switch(*on),
        DeValue::Array(values) => {
            ConfigValue::Texts(values.iter().map(|value| one(value.get_ref())).collect::<Result<_>>()?)
        }
        other => ConfigValue::Texts(vec![one(other)?]),
    };
    Ok(Setting { line, value })
}

/// Checks that the flag accepts the value as if it had been typed.
fn check(command: &Command, arg: &Arg, setting: &Setting) -> Result<(), String> {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let texts = match (&setting.value, is_switch) {
        (ConfigValue::Switch(_), true) => return Ok(()),
        (ConfigValue::Texts(_), true) => return Err("expected true or false".to_owned()),
        (ConfigValue::Switch(_), false) => return Err("expected a string".to_owned()),
        (ConfigValue::Texts(texts), false) => texts,
    };
    let takes_many = matches!(arg.get_action(), ArgAction::Append);
    if texts.len() != 1 && !takes_many {
        return Err("expected one value, found a list".to_owned());
    }
    for text in texts {
        let flag = format!("--{}={text}", arg.get_long().unwrap_or_default());
        match command.clone().try_get_matches_from([command.get_name().to_owned(), flag]) {
            Err(error) if matches!(error.kind(), Clap::ValueValidation | Clap::InvalidValue) => {
                return Err(sentence(&error, command, &[]));
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
        Config::parse(text, "evt.toml", "evt-window", crate::tool::ALL)
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
        for (text, expected) in [
            ("\nmax-recrod = '1MiB'", "evt.toml:2: unknown key 'max-recrod'; did you mean max-record?"),
            ("[evt-windows]\n", "evt.toml:1: unknown section 'evt-windows'; did you mean evt-window?"),
            ("[evt-sink]\nsize = '1m'", "evt.toml:2: unknown key 'size'"),
            ("config = 'x'", "evt.toml:1: unknown key 'config'"),
            ("a = \n", "evt.toml:1: "),
            ("quiet = { a = 1 }", "evt.toml:1: unknown section 'quiet'"),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!(error.kind(), evt_core::ErrorKind::Config);
            assert!(error.to_string().starts_with(expected), "{error}\n{expected}");
        }
    }
}
