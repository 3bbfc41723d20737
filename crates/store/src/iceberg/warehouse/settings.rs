//! The catalog that a URI names: a directory, or one of the `--config` file.
//!
//! ```toml
//! [catalog.lake]
//! type = "sql"                          # or "rest"
//! uri = "postgres://evt@db/catalog"     # or "sqlite:PATH"; of a server http://HOST[:PORT][/BASE]
//! warehouse = "s3://bucket/lake"        # or a directory; of a server the name that it has for it
//! bucket-options = "region=eu-central-1"
//! token = "{env:TOKEN}"                 # or credential = "CLIENT:SECRET", scope, oauth2-server-uri
//! ```

use super::catalog::{Catalog, SqlCatalog, TableKey};
use super::postgres::PostgresCatalog;
use super::rest::{RestCatalog, RestSettings};
use super::sqlite::SqliteCatalog;
use super::storage::{TableStorage, local_path, local_uri};
use crate::lake::disk::failed;
use crate::sqlite::file::SqliteFile;
use evt_core::error::{Error, Result};
use evt_core::parse::query;
use evt_run::client::Location;
use evt_run::storage::disk::Disk;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The name of the catalog of a directory, and the namespace without `?namespace=`.
const EVT: &str = "evt";
/// The keys of a section.
const KEYS: [&str; 8] =
    ["bucket-options", "credential", "oauth2-server-uri", "scope", "token", "type", "uri", "warehouse"];

/// Those whose values are secrets.
const SECRETS: [&str; 2] = ["credential", "token"];

/// What a URI names.
pub struct NamedCatalog {
    /// The catalog.
    pub catalog: Rc<dyn Catalog>,
    /// The only table, if the URI names one.
    pub table: Option<String>,
    /// What messages call it.
    pub shown: String,
}

/// Finds the catalog of a URI. Errors: exit status 2 for a wrong URI, 78 for a wrong section.
pub fn catalog(location: &Location, disk: &Disk) -> Result<NamedCatalog> {
    let path = &location.path;
    if path.ends_with('/') {
        return directory(location, disk);
    }
    let (name, table) = path.split_once('/').map_or((&**path, None), |(name, table)| (name, Some(table)));
    let split = |table: &str| table.split_once('.').map(|(space, name)| (space.to_owned(), name.to_owned()));
    let (space, table) = match table.map(|table| split(table).filter(|(_, name)| !name.contains(['/', '.']))) {
        None => (None, None),
        Some(Some((space, name))) => (Some(space), Some(name)),
        Some(None) => {
            let expected = "expected iceberg:DIR/, iceberg:CATALOG or iceberg:CATALOG/NAMESPACE.TABLE";
            return Err(Error::usage(format!("{location}: {expected}")));
        }
    };
    let namespace = match (space, location.option("namespace")) {
        (Some(_), Some(_)) => {
            return Err(Error::usage(format!("{location}: it names a namespace, give no namespace=")));
        }
        (Some(space), None) => space,
        (None, _) => namespace(location)?,
    };
    let section = Section::of(location, name)?;
    let catalog = section.catalog(namespace, disk)?;
    Ok(NamedCatalog { catalog, table, shown: location.to_string() })
}

fn namespace(location: &Location) -> Result<String> {
    let namespace = location.option("namespace").unwrap_or(EVT).to_owned();
    if namespace.is_empty() || namespace.contains(['/', '.']) {
        return Err(Error::usage(format!("{location}: namespace: expected one name, found '{namespace}'")));
    }
    Ok(namespace)
}

/// Returns an absolute path of a directory.
fn absolute(given: &Path) -> Result<PathBuf> {
    match fs::canonicalize(given) {
        Ok(root) => Ok(root),
        // A slash at the end is no part of the name.
        Err(_) => Ok(std::path::absolute(given).map_err(failed(given, "cannot find"))?.components().collect()),
    }
}

/// Finds the catalog in a directory.
fn directory(location: &Location, disk: &Disk) -> Result<NamedCatalog> {
    if location.path.contains(['?', '#', '%']) {
        return Err(Error::usage(format!("{location}: readers of Iceberg take no path with ?, # or %")));
    }
    let root = absolute(Path::new(&location.path))?;
    let key = TableKey { catalog: EVT.to_owned(), namespace: namespace(location)?, table: String::new() };
    let catalog = SqlCatalog {
        rows: SqliteCatalog { file: sqlite(&root.join("catalog.db").display().to_string())?, disk: disk.clone() },
        storage: TableStorage::new(disk.clone(), location.caller.clone(), ""),
        key,
        root: local_uri(&root),
        directory: Some(root.clone()),
    };
    let shown = format!("iceberg:{}/", root.display());
    Ok(NamedCatalog { catalog: Rc::new(catalog), table: None, shown })
}

fn sqlite(path: &str) -> Result<SqliteFile> {
    SqliteFile::try_new(&Location { scheme: "sqlite".to_owned(), path: path.to_owned(), ..Location::default() })
}

/// The section of a catalog.
struct Section<'a> {
    location: &'a Location,
    name: &'a str,
    settings: BTreeMap<String, String>,
    /// The file and the section, for messages.
    shown: String,
}

impl<'a> Section<'a> {
    fn of(location: &'a Location, name: &'a str) -> Result<Self> {
        let catalogs = &location.caller.catalogs;
        let Some(settings) = catalogs.sections.get(name) else {
            let where_to = match &*catalogs.path {
                "" => "give --config a file that has it".to_owned(),
                path => format!("{path} has none"),
            };
            let message = format!(
                "{location}: expected a section [catalog.{name}]; {where_to} (a directory is written iceberg:{name}/)"
            );
            return Err(Error::usage(message));
        };
        let shown = format!("{}: [catalog.{name}]", catalogs.path);
        let mut kept = BTreeMap::new();
        for (key, value) in settings {
            if !KEYS.contains(&&**key) {
                return Err(Error::config(format!("{shown}: unknown key '{key}'; expected one of {}", KEYS.join(" "))));
            }
            if SECRETS.contains(&&**key) && !value.contains('{') {
                location.caller.console.secrets.remember(key, value);
            }
            kept.insert(key.clone(), value.clone());
        }
        Ok(Self { location, name, settings: kept, shown })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// Returns the value of a key, with those of its placeholders.
    fn revealed(&self, key: &str) -> Result<Option<String>> {
        let secrets = &self.location.caller.console.secrets;
        let reveal = |text: &str| secrets.conceal(text).map(|concealed| secrets.reveal(&concealed));
        self.text(key).map(reveal).transpose().map_err(|error| error.at(format!("{}: {key}", self.shown)))
    }

    fn required(&self, key: &str) -> Result<&str> {
        self.text(key).ok_or_else(|| Error::config(format!("{}: expected {key}", self.shown)))
    }

    /// Returns the location of the server of the catalog.
    fn server(&self) -> Result<Location> {
        let secrets = &self.location.caller.console.secrets;
        let uri = secrets.conceal(self.required("uri")?)?;
        let wrong = || Error::config(format!("{}: uri: expected a URI", self.shown));
        let (scheme, rest) = uri.split_once(':').ok_or_else(wrong)?;
        let (path, options) = query::split_after(scheme, rest)?;
        let (slashes, path) = path.strip_prefix("//").map_or((false, path), |path| (true, path));
        Ok(Location {
            scheme: scheme.to_owned(),
            slashes,
            is_remote: slashes,
            path: if slashes { secrets.reveal_encoded(path) } else { secrets.reveal(path) },
            options: options.into_iter().map(|(name, value)| (name, secrets.reveal(&value))).collect(),
            caller: self.location.caller.clone(),
        })
    }

    fn catalog(&self, namespace: String, disk: &Disk) -> Result<Rc<dyn Catalog>> {
        let at = |error: Error| error.at(self.shown.clone());
        let options = self.text("bucket-options").unwrap_or_default();
        let storage = TableStorage::new(disk.clone(), self.location.caller.clone(), options);
        let server = self.server()?;
        match (self.required("type")?, &*server.scheme) {
            ("sql", "postgres" | "postgresql" | "sqlite") => {
                let warehouse = self.required("warehouse")?.trim_end_matches('/');
                let root = match local_path(warehouse) {
                    _ if warehouse.contains("://") => warehouse.to_owned(),
                    Some(path) => local_uri(&absolute(&path)?),
                    None => local_uri(&absolute(Path::new(warehouse))?),
                };
                let key = TableKey { catalog: self.name.to_owned(), namespace, table: String::new() };
                if !server.slashes {
                    let rows = SqliteCatalog { file: sqlite(&server.path)?, disk: disk.clone() };
                    return Ok(Rc::new(SqlCatalog { rows, storage, key, root, directory: None }));
                }
                let rows = PostgresCatalog::try_new(&server).map_err(at)?;
                Ok(Rc::new(SqlCatalog { rows, storage, key, root, directory: None }))
            }
            ("rest", "http" | "https") => {
                let text = |key: &str| self.revealed(key);
                let settings = RestSettings {
                    token: text("token")?,
                    credential: text("credential")?,
                    scope: text("scope")?,
                    token_uri: text("oauth2-server-uri")?,
                    warehouse: text("warehouse")?,
                    namespace,
                };
                Ok(Rc::new(RestCatalog::try_new(&server, settings, storage).map_err(at)?))
            }
            ("sql", _) => Err(Error::config(format!("{}: uri: expected postgres://… or sqlite:PATH", self.shown))),
            ("rest", _) => Err(Error::config(format!("{}: uri: expected http://… or https://…", self.shown))),
            (other, _) => Err(Error::config(format!("{}: type: expected rest or sql, found '{other}'", self.shown))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;
    use evt_run::client::{Caller, CatalogSections};
    use std::sync::Arc;

    /// Finds the catalog of a URI's path in a file with one section `lake`.
    fn find(path: &str, section: &[(&str, &str)], options: &[(&str, &str)]) -> Result<NamedCatalog> {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let sections =
            CatalogSections { path: "evt.toml".to_owned(), sections: [("lake".to_owned(), pairs(section))].into() };
        let caller = Caller { catalogs: Arc::new(sections), ..Caller::default() };
        let (scheme, path) = ("iceberg".to_owned(), path.to_owned());
        catalog(&Location { scheme, path, options: pairs(options), caller, ..Location::default() }, &Disk::default())
    }

    const REST: [(&str, &str); 2] = [("type", "rest"), ("uri", "http://127.0.0.1:1/")];

    #[test]
    fn a_uri_names_a_section_and_perhaps_one_table() {
        assert_eq!(find("lake", &REST, &[]).unwrap().table, None);
        assert_eq!(find("lake/gold.hourly", &REST, &[]).unwrap().table.as_deref(), Some("hourly"));
        let sql = [("type", "sql"), ("uri", "sqlite:c.db"), ("warehouse", "s3://bucket/x/")];
        assert_eq!(find("lake", &sql, &[("namespace", "silver")]).unwrap().shown, "iceberg:lake");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |pairs: &[(&'static str, &'static str)]| [&REST[..], pairs].concat();
        let pair = |kind: &'static str, uri: &'static str| vec![("type", kind), ("uri", uri)];
        for (path, section, options, kind, words) in [
            ("other", of(&[]), &[][..], ErrorKind::Usage, "expected a section [catalog.other]; evt.toml has none"),
            ("lake/x", of(&[]), &[], ErrorKind::Usage, "iceberg:CATALOG/NAMESPACE.TABLE"),
            ("lake/a.b.c", of(&[]), &[], ErrorKind::Usage, "iceberg:CATALOG/NAMESPACE.TABLE"),
            ("lake/a.b", of(&[]), &[("namespace", "c")], ErrorKind::Usage, "give no namespace="),
            ("lake", of(&[]), &[("namespace", "a.b")], ErrorKind::Usage, "expected one name, found 'a.b'"),
            ("lake", of(&[("tokn", "x")]), &[], ErrorKind::Config, "unknown key 'tokn'"),
            ("lake", vec![("type", "rest")], &[], ErrorKind::Config, "expected uri"),
            ("lake", vec![("uri", "http://h")], &[], ErrorKind::Config, "expected type"),
            ("lake", pair("hive", "http://h"), &[], ErrorKind::Config, "expected rest or sql, found 'hive'"),
            ("lake", pair("rest", "sqlite:x"), &[], ErrorKind::Config, "expected http://"),
            ("lake", pair("sql", "http://h"), &[], ErrorKind::Config, "expected postgres://"),
            ("lake", pair("sql", "sqlite:x"), &[], ErrorKind::Config, "expected warehouse"),
            ("lake", pair("rest", "http://h?tls=1"), &[], ErrorKind::Usage, "unknown option 'tls'"),
        ] {
            let error = find(path, &section, options).err().unwrap();
            assert!(error.kind() == kind && error.to_string().contains(words), "{path} {section:?}: {error}");
        }
    }
}
