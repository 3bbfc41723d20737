//! Where a job reads and writes: topics and, for metrics, evt's tables in PostgreSQL.

use super::text::text;
use crate::error::{Error, Result};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Servers, `HOST:PORT` with commas between them.
    pub servers: String,
    /// Its name.
    pub name: String,
    /// The URL of the registry of records in Avro; `None` for JSON.
    pub registry: Option<String>,
}

impl Topic {
    /// Reads `kafka://HOST:PORT/TOPIC`. Errors: exit status 2 for anything else.
    pub fn parse(uri: &str) -> Result<Self> {
        let parts = uri.strip_prefix("kafka://").and_then(|rest| rest.split_once('/'));
        match parts {
            Some((servers, name)) if is_name(name) && servers.split(',').all(is_server) => {
                Ok(Self { servers: servers.to_owned(), name: name.to_owned(), registry: None })
            }
            _ => Err(Error::usage(format!("{uri}: expected one topic without options, as kafka://HOST:PORT/TOPIC"))),
        }
    }

    /// Reads the URI of the topic of events, whose records may be in Avro: `?format=avro&schemas=URL`. Errors: exit
    /// status 2 for anything else.
    pub fn parse_input(uri: &str) -> Result<Self> {
        let (address, options) = uri.split_once('?').unwrap_or((uri, ""));
        let topic = Self::parse(address)?;
        let mut options: Vec<&str> = options.split('&').filter(|option| !option.is_empty()).collect();
        options.sort_unstable();
        let registry = match &options[..] {
            [] | ["format=json"] => return Ok(topic),
            ["format=avro", schemas] => schemas.strip_prefix("schemas=").filter(|url| is_registry(url)),
            _ => None,
        };
        let Some(registry) = registry else {
            let wanted = "expected no options but format=avro&schemas=URL, with an HTTP URL that has no password";
            return Err(Error::usage(format!("{address}: {wanted}")));
        };
        Ok(Self { registry: Some(registry.to_owned()), ..topic })
    }

    /// Returns its URI.
    pub fn uri(&self) -> String {
        let registry = self.registry.as_ref().map(|url| format!("?format=avro&schemas={url}")).unwrap_or_default();
        format!("kafka://{}/{}{registry}", self.servers, self.name)
    }

    /// Returns the options that say where it is.
    pub(super) fn address(&self) -> String {
        let (name, servers) = (text(&self.name), text(&self.servers));
        format!("'connector' = 'kafka', 'topic' = {name}, 'properties.bootstrap.servers' = {servers}")
    }
}

/// Where metrics are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricOutput {
    /// A topic, exactly once.
    Topic(Topic),
    /// A table in PostgreSQL, by key.
    Database(Database),
}

impl MetricOutput {
    /// Reads the URI of a topic or of a database. Errors: exit status 2 for anything else.
    pub fn parse(uri: &str) -> Result<Self> {
        let rest = uri.strip_prefix("postgres://").or_else(|| uri.strip_prefix("postgresql://"));
        match rest {
            Some(rest) => Database::parse(uri, rest).map(Self::Database),
            None => Topic::parse(uri).map(Self::Topic),
        }
    }

    /// Returns the table that the job writes, after `CREATE TEMPORARY TABLE`; `once` has the options of a topic that is
    /// written exactly once.
    pub(super) fn table(&self, once: &str) -> String {
        match self {
            Self::Topic(topic) => format!(
                "metrics (metric_id STRING, metric_name STRING, window_start TIMESTAMP_LTZ(6), window_end TIMESTAMP_LTZ(6), \
                 dimensions STRING, `value` DOUBLE, `rows` BIGINT, revision INT, pane INT, retracted BOOLEAN) WITH (\n  {},\n  \
                 'key.format' = 'raw', 'key.fields' = 'metric_id',\n  \
                 'value.format' = 'json', 'value.json.timestamp-format.standard' = 'ISO-8601',\n  {once});\n",
                topic.address()
            ),
            Self::Database(database) => database.table(),
        }
    }

    /// Returns the columns of that table, of a view with the rows of a metric; `run` names the job.
    pub(super) fn columns(&self, run: &str) -> String {
        match self {
            Self::Topic(_) => "*".to_owned(),
            Self::Database(_) => format!(
                "metric_id, metric_name, CAST(window_start AS TIMESTAMP(6)), CAST(window_end AS TIMESTAMP(6)), dimensions, \
                 `value`, `rows`, revision, pane, {}, CAST(CURRENT_TIMESTAMP AS TIMESTAMP(6))",
                text(run)
            ),
        }
    }
}

/// A database in PostgreSQL with evt's tables. Its password is where the driver looks for it, in ~/.pgpass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    user: Option<String>,
    /// `HOST` or `HOST:PORT`.
    server: String,
    name: String,
    schema: Option<String>,
    is_encrypted: bool,
}

impl Database {
    fn parse(uri: &str, rest: &str) -> Result<Self> {
        let wrong = |why: &str| Error::usage(format!("{uri}: {why}"));
        let (address, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, address) = address.split_once('@').map_or((None, address), |(user, rest)| (Some(user), rest));
        if user.is_some_and(|user| user.contains(':')) {
            // The message must not show it.
            return Err(Error::usage("the password would be in the script; put it into ~/.pgpass of Flink's user"));
        }
        let Some((server, name)) = address.split_once('/') else {
            return Err(wrong("expected postgres://[USER@]HOST[:PORT]/DATABASE"));
        };
        if !is_server(server) || !is_name(name) || !user.is_none_or(is_name) {
            return Err(wrong("expected letters, digits, '.', '_' and '-' in user, host and database"));
        }
        let host = server.split(':').next().unwrap_or_default();
        let is_local = matches!(host, "localhost" | "127.0.0.1");
        let (mut schema, mut is_encrypted) = (None, !is_local);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("schema", name)) if is_name(name) => schema = Some(name.to_owned()),
                Some(("sslmode", "disable")) => is_encrypted = false,
                Some(("sslmode", "require")) => is_encrypted = true,
                _ => return Err(wrong("expected no options but schema=NAME and sslmode=disable|require")),
            }
        }
        let [server, name] = [server, name].map(str::to_owned);
        Ok(Self { user: user.map(str::to_owned), server, name, schema, is_encrypted })
    }

    fn table(&self) -> String {
        let Self { server, name, schema, .. } = self;
        let user = self.user.as_deref().map(|user| format!("&user={user}")).unwrap_or_default();
        let schema = schema.as_deref().map(|schema| format!("&currentSchema={schema}")).unwrap_or_default();
        // As evt does, the driver verifies the certificate.
        let mode = match self.is_encrypted {
            true => "&sslmode=verify-full&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory",
            false => "&sslmode=disable",
        };
        // A user is in the URL, because as an option it would need a password beside it. The driver sends texts for
        // columns that are UUID and JSONB.
        let url = format!(
            "jdbc:postgresql://{server}/{name}?stringtype=unspecified&options=-c%20TimeZone=UTC{mode}{user}{schema}"
        );
        format!(
            "metrics (metric_id STRING, metric_name STRING, window_start TIMESTAMP(6), window_end TIMESTAMP(6), \
             dimensions STRING, `value` DOUBLE, `rows` BIGINT, revision INT, pane INT, run STRING, updated_at TIMESTAMP(6), \
             PRIMARY KEY (metric_id) NOT ENFORCED) WITH (\n  'connector' = 'jdbc', 'url' = {},\n  \
             'table-name' = 'aggregated_metrics', 'sink.max-retries' = '10');\n",
            text(&url)
        )
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Whether it is a URL without options and without a user, whose password would be in the script.
fn is_registry(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '[' | ']' | '/');
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_part))
}

fn is_server(server: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '[' | ']');
    !server.is_empty() && server.chars().all(is_part)
}
