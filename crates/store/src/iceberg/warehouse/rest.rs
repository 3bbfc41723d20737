//! A catalog that is a server with the REST API of Iceberg. The server writes `metadata.json`.
//!
//! A commit asserts the snapshot that it is based on. If its answer is lost, or is an error of the server, the table is
//! read again: the commit is done if it has the snapshot, and cannot be done any more if another one came first.

use super::catalog::{Catalog, NextVersion, TableVersion, VERSIONS_BEFORE};
use super::storage::TableStorage;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::iceberg::metadata::{MAIN, NewTable, TableMetadata};
use evt_run::client::Location;
use evt_run::client::https::HttpsClient;
use evt_run::client::outage::{RetryError, RetryPolicy};
use http::{Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::cell::{OnceCell, RefCell};

/// Maximum bytes of an answer.
const ANSWER_MAX: u64 = 256 << 20;
/// The options of its address.
const OPTIONS: [&str; 4] = ["ca", "connect", "retry", "timeout"];
const REMOVED: &str = "the table was removed";

/// What a client says to a server besides its requests.
#[derive(Clone, Default)]
pub struct RestSettings {
    /// A token.
    pub token: Option<String>,
    /// `CLIENT:SECRET`, for which the server gives a token.
    pub credential: Option<String>,
    /// What the token is for.
    pub scope: Option<String>,
    /// The server that gives tokens, if it is another one.
    pub token_uri: Option<String>,
    /// The name that the server has for the warehouse.
    pub warehouse: Option<String>,
    /// The namespace.
    pub namespace: String,
}

/// A catalog of a server.
pub struct RestCatalog {
    client: HttpsClient,
    /// `http://HOST/BASE/v1`.
    base: String,
    settings: RestSettings,
    /// The token that the server has given.
    token: RefCell<Option<String>>,
    retries: RetryPolicy,
    /// The server, for messages.
    shown: String,
    /// What the server wants between the version and the names.
    prefix: OnceCell<String>,
    storage: TableStorage,
}

/// An answer: a success, or a refusal with a meaning (404, 409).
struct RestAnswer {
    status: u16,
    body: Value,
}

impl RestAnswer {
    fn message(&self) -> String {
        match self.body["error"]["message"].as_str() {
            Some(message) => message.lines().next().unwrap_or_default().to_owned(),
            None => format!("status {}", self.status),
        }
    }
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl RestCatalog {
    /// Makes a client; sends nothing. Errors: exit status 2 for a wrong address.
    pub fn try_new(server: &Location, settings: RestSettings, storage: TableStorage) -> Result<Self> {
        server.check_options("rest", &OPTIONS)?;
        let base = format!("{}://{}", server.scheme, server.path.trim_end_matches('/'));
        if Request::get(&base).body(()).is_err() || server.path.contains('@') {
            return Err(Error::usage(format!("{server}: expected http://HOST[:PORT][/BASE]")));
        }
        Ok(Self {
            client: HttpsClient::try_new(server, base.starts_with("https:"))?,
            base: format!("{}/v1", base.trim_end_matches("/v1")),
            settings,
            token: RefCell::default(),
            retries: server.retries()?.at_start(),
            shown: server.to_string(),
            prefix: OnceCell::new(),
            storage,
        })
    }

    /// Makes an attempt, and again while the server is away.
    fn run<T>(&self, attempt: impl FnMut() -> Result<T, RetryError>) -> Result<T> {
        self.retries.run(attempt).map_err(|error| match error.position() {
            None if error.kind() != ErrorKind::Unavailable => error.at(self.shown.clone()),
            _ => error,
        })
    }

    /// Sends a request once.
    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<RestAnswer, RetryError> {
        let mut answer = self.send_with_token(&method, path, body)?;
        if answer.status == 401 && self.settings.credential.is_some() {
            // The token has expired.
            *self.token.borrow_mut() = None;
            answer = self.send_with_token(&method, path, body)?;
        }
        match answer.status {
            200..300 | 404 | 409 => Ok(answer),
            401 | 403 | 419 => Err(Error::config("access denied").because(answer.message()).into()),
            408 | 429 | 500.. => Err(RetryError::Transient(answer.message())),
            status => Err(Error::config(format!("status {status}")).because(answer.message()).into()),
        }
    }

    fn send_with_token(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<RestAnswer, RetryError> {
        let authorization = self.authorization()?;
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header("accept", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        self.exchange(request.body(body.map(Value::to_string).unwrap_or_default()))
    }

    fn exchange(&self, request: Result<Request<String>, http::Error>) -> Result<RestAnswer, RetryError> {
        let request = request.map_err(|error| Error::config("invalid request").because(error))?;
        let response = self.client.exchange(request, ANSWER_MAX)?;
        let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        Ok(RestAnswer { status: response.status().as_u16(), body })
    }

    /// Returns the header that proves who the client is; fetches a token first, if it has none.
    fn authorization(&self) -> Result<Option<String>, RetryError> {
        let RestSettings { token, credential, scope, token_uri, .. } = &self.settings;
        let Some(credential) = credential else { return Ok(token.as_ref().map(|token| format!("Bearer {token}"))) };
        if let Some(token) = &*self.token.borrow() {
            return Ok(Some(format!("Bearer {token}")));
        }
        let (id, secret) = credential.split_once(':').unwrap_or(("", credential));
        let mut form = "grant_type=client_credentials".to_owned();
        let pairs = [("client_id", id), ("client_secret", secret), ("scope", scope.as_deref().unwrap_or("catalog"))];
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            form.push_str(&format!("&{name}={}", escaped(value)));
        }
        let uri = token_uri.clone().unwrap_or_else(|| format!("{}/oauth/tokens", self.base));
        let request = Request::post(uri).header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer = self.exchange(request)?;
        match (answer.status, answer.body["access_token"].as_str()) {
            (200..300, Some(token)) => {
                *self.token.borrow_mut() = Some(token.to_owned());
                Ok(Some(format!("Bearer {token}")))
            }
            (408 | 429 | 500.., _) => Err(RetryError::Transient(answer.message())),
            _ => Err(Error::config("access denied: no token").because(answer.message()).into()),
        }
    }

    /// Returns the path of the namespace, or of what is in it.
    fn path(&self, rest: &str) -> Result<String, RetryError> {
        let prefix = match self.prefix.get() {
            Some(prefix) => prefix,
            None => {
                let warehouse = self
                    .settings
                    .warehouse
                    .as_ref()
                    .map_or(String::new(), |name| format!("?warehouse={}", escaped(name)));
                let answer = self.send(Method::GET, &format!("/config{warehouse}"), None)?;
                if !answer.body.is_object() || answer.status != 200 {
                    return Err(Error::config("expected a catalog of Iceberg").because(answer.message()).into());
                }
                let of = |name: &str| answer.body[name]["prefix"].as_str();
                let prefix = of("overrides").or_else(|| of("defaults")).unwrap_or_default();
                let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
                self.prefix.get_or_init(|| prefix)
            }
        };
        Ok(format!("{prefix}/namespaces/{}{rest}", escaped(&self.settings.namespace)))
    }

    fn table_path(&self, table: &str) -> Result<String, RetryError> {
        self.path(&format!("/tables/{}", escaped(table)))
    }

    fn version(&self, answer: &RestAnswer) -> Result<TableVersion, RetryError> {
        let location = answer.body["metadata-location"].as_str().unwrap_or_default().to_owned();
        let metadata = TableMetadata::parse(answer.body["metadata"].to_string().as_bytes(), &location)?;
        Ok(TableVersion { metadata, location, storage: self.storage.clone() })
    }

    fn try_find(&self, table: &str) -> Result<Option<TableVersion>, RetryError> {
        let answer = self.send(Method::GET, &self.table_path(table)?, None)?;
        if answer.status == 404 { Ok(None) } else { self.version(&answer).map(Some) }
    }

    /// Says what became of a commit whose answer was lost; `None` if it may be sent again.
    fn outcome(&self, table: &str, next: &NextVersion<'_>) -> Result<Option<bool>, RetryError> {
        let present = self.try_find(table)?.ok_or_else(|| Error::failed(format!("{table}: {REMOVED}")))?;
        let has = |id: i64| present.metadata.snapshots.iter().any(|snapshot| snapshot.snapshot_id == id);
        let is_done = match next.snapshot {
            Some(snapshot) => has(snapshot.snapshot_id),
            None => !next.expired.iter().any(|id| has(*id)),
        };
        let id = |version: &TableVersion| version.metadata.snapshot().map(|snapshot| snapshot.snapshot_id);
        Ok(match (is_done, id(&present) == id(next.base)) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        })
    }
}

/// Returns the request of a commit.
fn request(table: &str, namespace: &str, next: &NextVersion<'_>) -> Value {
    let base = &next.base.metadata;
    let main = base.snapshot().map(|snapshot| snapshot.snapshot_id);
    let mut requirements = vec![
        json!({"type": "assert-table-uuid", "uuid": base.table_uuid}),
        json!({"type": "assert-ref-snapshot-id", "ref": MAIN, "snapshot-id": main}),
    ];
    let mut updates = vec![];
    if let Some(schema) = next.schema {
        requirements.push(json!({"type": "assert-current-schema-id", "current-schema-id": base.current_schema_id}));
        requirements
            .push(json!({"type": "assert-last-assigned-field-id", "last-assigned-field-id": base.last_column_id}));
        let last = next.metadata.last_column_id;
        updates.push(json!({"action": "add-schema", "schema": schema, "last-column-id": last}));
        updates.push(json!({"action": "set-current-schema", "schema-id": -1}));
    }
    if let Some(snapshot) = next.snapshot {
        let id = snapshot.snapshot_id;
        updates.push(json!({"action": "add-snapshot", "snapshot": snapshot}));
        updates.push(json!({"action": "set-snapshot-ref", "ref-name": MAIN, "type": "branch", "snapshot-id": id}));
    }
    if !next.properties.is_empty() {
        updates.push(json!({"action": "set-properties", "updates": next.properties}));
    }
    if !next.expired.is_empty() {
        updates.push(json!({"action": "remove-snapshots", "snapshot-ids": next.expired}));
    }
    json!({
        "identifier": {"namespace": [namespace], "name": table},
        "requirements": requirements,
        "updates": updates,
    })
}

impl Catalog for RestCatalog {
    fn check(&self) -> Result<()> {
        self.exists().map(drop)
    }

    fn exists(&self) -> Result<bool> {
        self.run(|| self.path("")).map(|_| true)
    }

    fn create(&self) -> Result<()> {
        self.run(|| {
            if self.send(Method::GET, &self.path("")?, None)?.status != 404 {
                return Ok(());
            }
            let path = self.path("")?;
            let all = path.rsplit_once('/').map_or(&*path, |(all, _)| all);
            self.send(Method::POST, all, Some(&json!({"namespace": [self.settings.namespace], "properties": {}})))
                .map(drop)
        })
    }

    fn needs_snapshots(&self) -> bool {
        true
    }

    fn find(&self, table: &str) -> Result<Option<TableVersion>> {
        self.run(|| self.try_find(table))
    }

    fn create_table(&self, table: &str, new: NewTable) -> Result<TableVersion> {
        self.create()?;
        let mut properties = new.properties;
        properties.extend([
            ("format-version".to_owned(), "2".to_owned()),
            ("write.metadata.delete-after-commit.enabled".to_owned(), "true".to_owned()),
            ("write.metadata.previous-versions-max".to_owned(), VERSIONS_BEFORE.to_string()),
        ]);
        let mut body = json!({
            "name": table, "schema": new.schema, "partition-spec": new.partitions, "stage-create": false,
            "properties": properties,
        });
        if !new.order.is_empty() {
            body["write-order"] = json!({"order-id": 1, "fields": new.order});
        }
        self.run(|| {
            let answer = self.send(Method::POST, &self.path("/tables")?, Some(&body))?;
            match answer.status {
                200 => self.version(&answer),
                // Another run was faster, or the answer to an earlier attempt was lost.
                409 => self.try_find(table)?.ok_or_else(|| Error::failed(format!("{table}: {REMOVED}")).into()),
                status => Err(Error::config(format!("status {status}")).because(answer.message()).into()),
            }
        })
    }

    fn commit(&self, table: &str, next: NextVersion<'_>) -> Result<bool> {
        let body = request(table, &self.settings.namespace, &next);
        let mut is_unclear = false;
        self.run(|| {
            if is_unclear && let Some(is_done) = self.outcome(table, &next)? {
                return Ok(is_done);
            }
            let was_unclear = std::mem::replace(&mut is_unclear, true);
            let answer = self.send(Method::POST, &self.table_path(table)?, Some(&body))?;
            match answer.status {
                409 if was_unclear => Ok(self.outcome(table, &next)?.unwrap_or(false)),
                409 => Ok(false),
                404 => Err(Error::failed(format!("{table}: {REMOVED}")).into()),
                _ => Ok(true),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// Answers requests by `answer`, which gets the line, the header `authorization` and the body; keeps the lines.
    fn catalog(
        settings: RestSettings,
        answer: impl Fn(&str, &str, &str) -> (u16, Value) + Send + 'static,
    ) -> (RestCatalog, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = format!("{}/base", listener.local_addr().unwrap());
        let lines = Arc::new(Mutex::new(vec![]));
        let kept = lines.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut headers) = (String::new(), BTreeMap::new());
                reader.read_line(&mut line).unwrap();
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    let Some((name, value)) = header.trim_end().split_once(": ") else { break };
                    headers.insert(name.to_ascii_lowercase(), value.to_owned());
                }
                let header = |name: &str| headers.get(name).map_or("", String::as_str);
                let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
                let (status, said) = answer(&line, header("authorization"), str::from_utf8(&body).unwrap());
                kept.lock().unwrap().push(line);
                let said = said.to_string();
                let head =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", said.len());
                stream.write_all((head + &said).as_bytes()).unwrap();
            }
        });
        let server =
            Location { scheme: "http".to_owned(), slashes: true, is_remote: true, path, ..Location::default() };
        let settings = RestSettings { namespace: "a b".to_owned(), ..settings };
        (RestCatalog::try_new(&server, settings, TableStorage::default()).unwrap(), lines)
    }

    #[test]
    fn paths_have_the_prefix_of_the_server_and_requests_its_token() {
        let settings = RestSettings {
            credential: Some("me:hush&hush".to_owned()),
            warehouse: Some("my lake".to_owned()),
            ..RestSettings::default()
        };
        let given = Mutex::new(0);
        let (catalog, lines) = catalog(settings, move |line, authorization, body| {
            let mut given = given.lock().unwrap();
            if line.contains("/oauth/tokens") {
                assert_eq!(body, "grant_type=client_credentials&client_id=me&client_secret=hush%26hush&scope=catalog");
                *given += 1;
                return (200, json!({"access_token": format!("token{given}"), "token_type": "bearer"}));
            }
            match (authorization, line.contains("/config")) {
                // The first one expires after one request.
                ("Bearer token1", true) => (200, json!({"defaults": {}, "overrides": {"prefix": "ws/1"}})),
                ("Bearer token2", false) => (404, json!({"error": {"message": "none", "code": 404}})),
                _ => (401, json!({"error": {"message": "expired", "code": 401}})),
            }
        });
        assert!(catalog.find("raw_events").unwrap().is_none());
        let expected = [
            "POST /base/v1/oauth/tokens",
            "GET /base/v1/config?warehouse=my%20lake",
            "GET /base/v1/ws/1/namespaces/a%20b/tables/raw%5Fevents",
            "POST /base/v1/oauth/tokens",
            "GET /base/v1/ws/1/namespaces/a%20b/tables/raw%5Fevents",
        ];
        assert_eq!(*lines.lock().unwrap(), expected);
    }

    #[test]
    fn a_token_that_is_refused_and_a_server_that_is_none_of_iceberg_are_wrong_configuration() {
        let settings = RestSettings { token: Some("t".to_owned()), ..RestSettings::default() };
        let (refusing, _) = catalog(settings, |_, authorization, _| {
            assert_eq!(authorization, "Bearer t");
            (403, json!({"error": {"message": "not you\n\tat java", "code": 403}}))
        });
        let error = refusing.find("raw_events").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().ends_with("access denied: not you"), "{error}");
        let (other, _) = catalog(RestSettings::default(), |_, _, _| (404, json!("hello")));
        let error = other.exists().err().unwrap();
        assert!(
            error.kind() == ErrorKind::Config && error.to_string().contains("expected a catalog of Iceberg"),
            "{error}"
        );
    }
}
