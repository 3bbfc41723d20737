//! Places for checkpoints: a directory, and a bucket of a real S3 server with a proxy before it that fails.

use crate::harness::Dir;
use crate::servers::server;
use evt_run::bucket::address::BucketAddress;
use evt_run::bucket::client::Bucket;
use evt_run::client::Caller;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bucket of the tests.
const BUCKET: &str = "evt-tests";
/// The file of a test with the secret.
const SECRET: &str = "s3.secret";

/// Where a job keeps its checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointLocation {
    /// The value of `--checkpoint`.
    pub name: String,
    /// The files that it becomes. The server keeps objects as files.
    pub files: PathBuf,
}

impl CheckpointLocation {
    /// A directory of the test.
    pub fn directory(dir: &Dir) -> Self {
        Self { name: "state".to_owned(), files: dir.path("state") }
    }

    /// A prefix in a bucket; `None`, with one message, if there is no server.
    pub fn bucket(dir: &Dir) -> Option<Self> {
        let (endpoint, services) = (server("EVT_S3")?, server("EVT_SERVICES")?);
        let variable = |name: &str| std::env::var(name).expect("scripts/services sets it");
        dir.write(SECRET, variable("EVT_S3_SECRET_KEY"));
        let root = dir.path("");
        let prefix = root.file_name().expect("a name").to_string_lossy();
        let options = |secret: &str| {
            let (region, key) = (variable("EVT_S3_REGION"), variable("EVT_S3_ACCESS_KEY"));
            format!("?endpoint={endpoint}&region={region}&access_key={key}&secret_key={{file:{secret}}}&retry=1m")
        };
        let bucket = Path::new(&services).join("s3/data").join(BUCKET);
        // The server keeps buckets as directories. Another test may have created it.
        std::fs::create_dir_all(&bucket).expect("a bucket");
        let files = bucket.join(&*prefix);
        Some(Self { name: format!("s3://{BUCKET}/{prefix}{}", options(SECRET)), files })
    }

    /// Whether it is in a bucket.
    pub fn is_bucket(&self) -> bool {
        self.name.starts_with("s3:")
    }

    /// Returns a client of the bucket.
    pub fn client(&self, dir: &Dir) -> Bucket {
        let uri = self.name.replace(SECRET, &dir.path(SECRET).display().to_string());
        Bucket::try_new(BucketAddress::parse(&uri, &Caller::default()).expect("an address")).expect("a client")
    }

    /// Returns the number of entries of its log. An entry that is being written has a temporary name, which is not a
    /// number.
    pub fn entries(&self) -> usize {
        let is_entry = |name: &std::ffi::OsStr| name.to_string_lossy().parse::<u64>().is_ok();
        let log = std::fs::read_dir(self.files.join("log"));
        log.map_or(0, |log| log.flatten().filter(|file| is_entry(&file.file_name())).count())
    }

    /// Returns it behind a proxy.
    pub fn behind(&self, proxy: &Proxy) -> Self {
        let endpoint = std::env::var("EVT_S3").expect("a server");
        Self { name: self.name.replace(&endpoint, &proxy.address()), ..self.clone() }
    }
}

/// What a proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It answers 500 and passes nothing on.
    Fails,
    /// It passes the request on, and answers 500.
    LosesAnswer,
    /// It passes nothing on, and does not answer.
    Hangs,
    /// It passes the first bytes of the answer on.
    Cuts,
}

/// A proxy before a server.
pub struct Proxy {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy before the S3 server; `fault` decides by the line of a request and its number.
    pub fn new(fault: impl Fn(&str, usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self::before(&std::env::var("EVT_S3").expect("a server"), fault)
    }

    /// Starts a proxy before the server at an address.
    pub fn before(server: &str, fault: impl Fn(&str, usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let upstream = server.replace("http://", "");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (fault, requests) = (Arc::new(fault), Arc::new(AtomicUsize::new(0)));
        let counted = requests.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (fault, upstream, requests) = (fault.clone(), upstream.clone(), counted.clone());
                // A client may be killed at any time.
                std::thread::spawn(move || _ = pass(&stream, &upstream, &*fault, &requests));
            }
        });
        Self { port, requests }
    }

    /// Returns its address.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the number of requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Passes one request on, and its answer back.
fn pass(
    mut client: &TcpStream,
    upstream: &str,
    fault: &dyn Fn(&str, usize) -> Option<Fault>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    reader.read_line(&mut head)?;
    let line = head.clone();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 {
            return Ok(());
        }
        if header.trim_end().is_empty() {
            break;
        }
        if let Some((_, value)) =
            header.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            length = value.trim_end().parse().expect("a length");
        }
        head.push_str(&header);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let fault = fault(&line, requests.fetch_add(1, Ordering::Relaxed));
    let failure = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    match fault {
        Some(Fault::Fails) => return client.write_all(failure),
        // Until the client gives up.
        Some(Fault::Hangs) => return reader.read(&mut [0]).map(drop),
        _ => {}
    }
    let mut server = TcpStream::connect(upstream)?;
    // The signature does not cover this header.
    server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
    server.write_all(&body)?;
    let mut answer = vec![];
    server.read_to_end(&mut answer)?;
    match fault {
        Some(Fault::LosesAnswer) => client.write_all(failure),
        Some(Fault::Cuts) => client.write_all(&answer[..answer.len() / 2]),
        _ => client.write_all(&answer),
    }
}

/// Returns how many directories of processes are in a directory of temporary files.
pub fn left_behind(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("a directory").filter_map(Result::ok);
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("evt-checkpoint-")).count()
}
