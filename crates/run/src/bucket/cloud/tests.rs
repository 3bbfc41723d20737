//! Credentials: those of profiles, and those that other servers have.

use crate::bucket::address::BucketAddress;
use crate::bucket::client::Bucket;
use crate::client::Caller;
use crate::storage::Objects;
use evt_core::ErrorKind;
use evt_core::error::{Error, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A server that answers by the line of a request, and keeps what it got.
struct Answering {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Answering {
    fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = requests.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut request, mut length) = (String::new(), 0);
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !request.ends_with("\r\n\r\n") {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let header = line.to_lowercase();
                    length =
                        header.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().unwrap());
                    request += &line;
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                request += &String::from_utf8(body).unwrap();
                let body = answer(request.lines().next().unwrap());
                // Who has the answer may look for the request.
                kept.lock().unwrap().push(request);
                let head = "connection: close\r\netag: \"e\"";
                _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

type Variables<'a> = Vec<(&'a str, String)>;

fn parse(text: &str, variables: &Variables<'_>) -> Result<BucketAddress> {
    let variable = |name: &str| variables.iter().find(|one| one.0 == name).map(|one| one.1.clone());
    BucketAddress::parse_in(text, &Caller::default(), &variable)
}

/// Writes the shared files; returns the variables that name them.
fn files<'a>(dir: &Path, config: &str, credentials: &str) -> Variables<'a> {
    std::fs::write(dir.join("config"), config).unwrap();
    std::fs::write(dir.join("credentials"), credentials).unwrap();
    let name = |file: &str| dir.join(file).display().to_string();
    vec![
        ("AWS_CONFIG_FILE", name("config")),
        ("AWS_SHARED_CREDENTIALS_FILE", name("credentials")),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}

const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile work]\nregion=eu-north-1\ns3 =\n  max = 1\n\
    [profile login]\nsso_session = company\n[sso-session company]\nsso_region = x\n\
    [profile program]\ncredential_process = /bin/keys\n[profile loose]\nrole_arn = arn:aws:iam::1:role/r\n\
    [profile deploy]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = work\nexternal_id = a b\n\
    [profile lost]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = login\n";
const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = DEFAULT-ID\naws_secret_access_key = default-secret\n\
    [work]\naws_access_key_id=WORK-ID\naws_secret_access_key=work-secret\naws_session_token=work-token\n";

/// Gets an object, and returns the request that the server got.
fn got(server: &Answering, options: &str, variables: &Variables<'_>) -> Result<String> {
    let address = parse(&format!("s3://bucket/a?endpoint={}&retry=1s{options}", server.url), variables)?;
    Bucket::try_new(address)?.get("x")?;
    let last = server.requests().pop();
    last.ok_or_else(|| Error::broken("no request"))
}

#[test]
fn a_profile_has_keys_a_token_and_a_region() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Answering::new(|_| "bytes".to_owned()));
    let mut variables = files(dir.path(), CONFIG, CREDENTIALS);
    let request = got(&server, "", &variables).unwrap();
    assert!(request.contains("Credential=DEFAULT-ID/") && request.contains("/eu-west-1/s3/"), "{request}");
    variables.push(("AWS_PROFILE", "work".to_owned()));
    let request = got(&server, "", &variables).unwrap();
    assert!(request.contains("Credential=WORK-ID/") && request.contains("/eu-north-1/s3/"), "{request}");
    assert!(request.contains("x-amz-security-token: work-token"), "{request}");
    assert!(!request.contains("work-secret"), "{request}");
    let request = got(&server, "&region=r", &variables).unwrap();
    assert!(request.contains("Credential=WORK-ID/") && request.contains("/r/s3/"), "{request}");
    // Keys of the environment come first.
    let keys = [("AWS_ACCESS_KEY_ID", "ENV-ID".to_owned()), ("AWS_SECRET_ACCESS_KEY", "env-secret".to_owned())];
    variables.extend(keys);
    let request = got(&server, "", &variables).unwrap();
    assert!(request.contains("Credential=ENV-ID/") && !request.contains("security-token"), "{request}");
}

#[test]
fn a_profile_that_needs_another_program_is_refused_with_what_to_run() {
    let dir = tempfile::tempdir().unwrap();
    for (profile, words) in [
        ("login", "found sso_session; run: eval \"$(aws configure export-credentials --profile login --format env)\""),
        ("program", "found credential_process; run: eval \"$(aws configure export-credentials --profile program "),
        ("loose", "role_arn: expected source_profile, found none"),
        ("lost", "profile login of"),
        ("none", "AWS_PROFILE: expected profile none in "),
    ] {
        let mut variables = files(dir.path(), CONFIG, CREDENTIALS);
        variables.push(("AWS_PROFILE", profile.to_owned()));
        let error = parse("s3://bucket/a?region=r", &variables).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(words), "{profile}: {error}");
    }
    // Without files there are no credentials.
    let error = parse("s3://bucket/a?region=r", &files(dir.path(), "", "")).unwrap_err();
    assert!(error.to_string().contains("expected credentials (AWS_ACCESS_KEY_ID"), "{error}");
}

/// An answer of the service STS.
fn session(action: &str) -> String {
    format!(
        "<{action}Response><{action}Result><Credentials><AccessKeyId>ROLE-ID</AccessKeyId>\
         <SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken>\
         <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>"
    )
}

#[test]
fn a_role_is_taken_with_the_keys_of_its_source_once_for_all_requests() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Answering::new(|_| "bytes".to_owned()));
    let sts = Answering::new(|_| session("AssumeRole"));
    let mut variables = files(dir.path(), CONFIG, CREDENTIALS);
    variables.extend([("AWS_PROFILE", "deploy".to_owned()), ("AWS_ENDPOINT_URL_STS", sts.url.clone())]);
    let text = format!("s3://bucket/a?endpoint={}&region=r", server.url);
    let bucket = Bucket::try_new(parse(&text, &variables).unwrap()).unwrap();
    for _ in 0..3 {
        bucket.get("x").unwrap();
    }
    let [asked] = &sts.requests()[..] else { panic!("one request for all") };
    assert!(asked.starts_with("POST / ") && asked.contains("Credential=WORK-ID/"), "{asked}");
    assert!(asked.contains("/r/sts/aws4_request") && asked.contains("&ExternalId=a%20b"), "{asked}");
    let request = server.requests().pop().unwrap();
    assert!(
        request.contains("Credential=ROLE-ID/") && request.contains("x-amz-security-token: role-token"),
        "{request}"
    );
}

#[test]
fn a_machine_a_container_and_a_web_identity_have_credentials() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Answering::new(|_| "bytes".to_owned()));
    let found = "{\"AccessKeyId\":\"ROLE-ID\",\"SecretAccessKey\":\"s\",\"Token\":\"role-token\",\
                 \"Expiration\":\"2100-01-01T00:00:00Z\"}";
    let machine = Answering::new(move |line| match line.split(' ').nth(1).unwrap() {
        "/latest/api/token" => "metadata-token".to_owned(),
        path if path.ends_with("security-credentials/") => "role".to_owned(),
        _ => found.to_owned(),
    });
    let sts = Answering::new(|_| session("AssumeRoleWithWebIdentity"));
    let token = dir.path().join("token");
    std::fs::write(&token, "of-the-cluster").unwrap();
    let token = token.display().to_string();
    for variables in [
        vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url.clone())],
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/keys", machine.url)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.clone()),
        ],
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.clone()),
            ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r".to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.url.clone()),
        ],
    ] {
        let request = got(&server, "&region=r", &variables).unwrap();
        let is_signed = request.contains("Credential=ROLE-ID/") && request.contains("x-amz-security-token: role-token");
        assert!(is_signed, "{variables:?}: {request}");
    }
}

/// It is no outage: the run would wait for minutes.
#[test]
fn a_refusal_of_the_server_of_credentials_says_which_ones_are_missing() {
    let server = Answering::new(|_| "bytes".to_owned());
    let machine = Answering::new(|_| "no role".to_owned());
    let variables = vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.url.clone())];
    let error = got(&server, "&region=r", &variables).unwrap_err();
    let words = "expected credentials (AWS_ACCESS_KEY_ID, or access_key= and secret_key=), found none";
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains(words), "{error}");
    assert!(server.requests().is_empty());
}
