//! `--checkpoint` and crashes at requests to servers: before a server gets a request, and after it has answered.
//!
//! The requests of an undisturbed run are counted; a run is killed at each of them, or at a sample.

use crate::broker::Bench;
use crate::bucket::CheckpointLocation;
use crate::checkpoint::{Job, OUTPUTS, generated};
use crate::checkpoint_at_once::table;
use crate::checkpoint_outputs::Topics;
use crate::harness::{Dir, Draws, ended};
use crate::servers::{postgres, psql, redis, server};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Requests of a sample. EVT_REMOTE_POINTS sets another number; one that is large enough means all requests.
const POINTS: usize = 4;
/// Events of a job.
const EVENTS: u64 = 400;
/// SIGKILL as an exit status.
const KILLED: i32 = 128 + 9;

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before the server gets the request.
    Before,
    /// When the server has answered, before the process gets the answer.
    After,
}

/// A request at which a process is killed.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// The number of the request, from 1.
    request: usize,
    moment: Moment,
}

/// What a proxy does next.
#[derive(Default)]
struct Plan {
    point: Option<Point>,
    /// The process, once it is known.
    process: Option<Pid>,
}

/// What the connections of a proxy share.
#[derive(Default)]
struct Shared {
    requests: AtomicUsize,
    plan: Mutex<Plan>,
    changed: Condvar,
}

impl Shared {
    /// Returns the moment at which the process is killed for this request, if it is.
    fn moment(&self) -> Option<Moment> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let point = self.plan.lock().expect("a plan").point;
        point.filter(|point| point.request == number).map(|point| point.moment)
    }

    fn kill(&self) {
        let plan = self.plan.lock().expect("a plan");
        let plan = self.changed.wait_while(plan, |plan| plan.process.is_none()).expect("a plan");
        // The process may have ended.
        let _ = kill_process(plan.process.expect("a process"), Signal::KILL);
    }
}

/// A proxy before a server. A request is what it reads from a client at once.
///
/// The answers of a Kafka broker contain its address; the proxy replaces it by its own.
struct KillingProxy {
    address: String,
    shared: Arc<Shared>,
}

/// The address of a server in answers, as Kafka writes it (the host and four bytes of the port), and that of the proxy.
#[derive(Clone, Debug)]
struct AddressChange {
    server: Vec<u8>,
    proxy: Vec<u8>,
}

impl AddressChange {
    fn new(server: &str, proxy: &str) -> Self {
        let bytes = |address: &str| {
            let (host, port) = address.rsplit_once(':').expect("host:port");
            let port: i32 = port.parse().expect("a port");
            [host.as_bytes(), &port.to_be_bytes()].concat()
        };
        Self { server: bytes(server), proxy: bytes(proxy) }
    }

    /// Replaces the address of the server, which has as many bytes.
    fn replace(&self, answer: &mut [u8]) {
        let found: Vec<usize> = memchr::memmem::find_iter(answer, &self.server).collect();
        for at in found {
            answer[at..at + self.proxy.len()].copy_from_slice(&self.proxy);
        }
    }
}

impl KillingProxy {
    /// Starts a proxy before the server at `upstream` (host:port).
    fn new(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (shared, upstream) = (Arc::new(Shared::default()), upstream.to_owned());
        let (of_thread, change) = (shared.clone(), AddressChange::new(&upstream, &address));
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                connect(client, server, &of_thread, change.clone());
            }
        });
        Self { address, shared }
    }

    /// Begins to count the requests of another run, which is killed at `point`.
    fn begin(&self, point: Option<Point>) {
        *self.shared.plan.lock().expect("a plan") = Plan { point, process: None };
        self.shared.requests.store(0, Ordering::SeqCst);
    }

    fn set_process(&self, process: Pid) {
        self.shared.plan.lock().expect("a plan").process = Some(process);
        self.shared.changed.notify_all();
    }

    fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

/// Passes bytes on in both directions until a side ends.
fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>, change: AddressChange) {
    let kills = Arc::new(AtomicBool::new(false));
    let (from, to) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
    let (of_requests, kills_later) = (shared.clone(), kills.clone());
    std::thread::spawn(move || {
        pass(from, to, |_| match of_requests.moment() {
            Some(Moment::Before) => {
                of_requests.kill();
                false
            }
            Some(Moment::After) => {
                kills_later.store(true, Ordering::SeqCst);
                true
            }
            None => true,
        });
    });
    let of_answers = shared.clone();
    std::thread::spawn(move || {
        pass(server, client, |answer| {
            change.replace(answer);
            let kills = kills.load(Ordering::SeqCst);
            if kills {
                of_answers.kill();
            }
            !kills
        });
    });
}

/// Passes bytes on until `take`, which may change them, returns false.
fn pass(mut from: TcpStream, mut to: TcpStream, take: impl Fn(&mut [u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !take(&mut buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other side may have ended.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Returns the host and the port of a URI.
fn host_of(uri: &str) -> &str {
    let authority = uri.split_once("://").map_or(uri, |(_, rest)| rest).split(['/', '?']).next().expect("a part");
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Reads the rows of a job's stores, sorted.
type ReadRows = Box<dyn Fn(&Job) -> Vec<String>>;

/// A job whose outputs or checkpoint are on a server, and the rows that its stores have.
struct RemoteJob {
    job: Job,
    read: ReadRows,
    drop: Box<dyn Fn(&Job)>,
}

/// Kills runs of jobs, which `make` makes with the address of the proxy, at requests; compares their rows with those of
/// an undisturbed run.
fn rows_are_there_once(upstream: &str, make: impl Fn(&str, &str) -> RemoteJob) {
    let (proxy, mut draws) = (KillingProxy::new(upstream), Draws::new());
    let start = |name: &str| {
        let made = make(name, &proxy.address);
        made.job.dir.write("a.jsonl", generated(&made.job.dir, EVENTS));
        made
    };
    let args = ["-q", "--checkpoint-every", "1ms", "--at-end", "fire", "a.jsonl"];
    let calm = start("calm");
    proxy.begin(None);
    calm.job.run(&args).succeeds();
    let (requests, expected) = (proxy.requests(), (calm.read)(&calm.job));
    (calm.drop)(&calm.job);
    assert!(requests > 10 && expected.len() > 20, "{requests} requests, {} rows", expected.len());
    let wanted = std::env::var("EVT_REMOTE_POINTS").map_or(POINTS, |points| points.parse().expect("a number"));
    let points = wanted.min(requests);
    let (mut kills, mut runs) = (0, 0);
    for at in 0..points {
        let request =
            1 + (at * requests + draws.below(requests as u64) as usize * usize::from(points < requests)) / points;
        for moment in [Moment::Before, Moment::After] {
            let point = Point { request, moment };
            let wild = start(&format!("{request}-{moment:?}"));
            proxy.begin(Some(point));
            let mut run = wild.job.start(&args);
            proxy.set_process(Pid::from_child(&run));
            let status = ended("the run", &mut run);
            // The server does not answer every request.
            assert!([0, KILLED].contains(&status), "{draws} {point:?}: {status}");
            kills += usize::from(status == KILLED);
            // A run may make fewer requests than the undisturbed one.
            runs += usize::from(proxy.requests() >= request);
            proxy.begin(None);
            wild.job.run(&args).succeeds();
            let found = (wild.read)(&wild.job);
            let extra: Vec<_> = found.iter().filter(|row| expected.binary_search(row).is_err()).take(3).collect();
            let missing: Vec<_> = expected.iter().filter(|row| found.binary_search(row).is_err()).take(3).collect();
            assert!(found == expected, "{draws} {point:?}: more {extra:?}, not there {missing:?}");
            (wild.drop)(&wild.job);
        }
    }
    println!("{upstream}: {requests} requests, {kills} kills in {runs} runs");
    assert!(kills > 0 && kills * 3 > runs, "{kills} kills in {runs} runs");
}

/// A job whose rows are in PostgreSQL, with more options of the output.
fn of_postgres(name: &str, address: &str, options: &str) -> RemoteJob {
    let (uri, server, schema) = postgres().expect("a server");
    let direct = format!("{uri}{options}");
    let to = direct.replacen(host_of(&uri), address, 1);
    let job = Job::new(&format!("remote-postgres-{name}"), &["--late", &to, "--dlq", &to, "--to", &to]);
    RemoteJob {
        job,
        read: Box::new(move |job| {
            let rows = ["aggregated_metrics", "late_events", "dead_letters"];
            let mut rows: Vec<String> = rows.iter().flat_map(|name| table(&job.dir, &direct, name)).collect();
            rows.sort();
            rows
        }),
        drop: Box::new(move |job| {
            psql(&job.dir, &server, &schema, &format!("DROP SCHEMA {schema} CASCADE"));
        }),
    }
}

#[test]
fn rows_in_postgres_are_there_once_although_runs_are_killed_at_its_requests() {
    let Some(server) = server("EVT_POSTGRES") else { return };
    rows_are_there_once(host_of(&server), |name, address| of_postgres(name, address, ""));
}

#[test]
fn rows_that_postgres_shows_at_once_are_there_once_although_runs_are_killed_at_its_requests() {
    let Some(server) = server("EVT_POSTGRES") else { return };
    rows_are_there_once(host_of(&server), |name, address| of_postgres(&format!("now-{name}"), address, "&visible=now"));
}

#[test]
fn rows_in_redis_are_there_once_although_runs_are_killed_at_its_requests() {
    let Some(server) = server("EVT_REDIS") else { return };
    rows_are_there_once(host_of(&server), |name, address| {
        let (direct, ..) = redis().expect("a server");
        let to = direct.replacen(host_of(&direct), address, 1);
        let job = Job::new(&format!("remote-redis-{name}"), &["--late", "null:", "--dlq", "null:", "--to", &to]);
        RemoteJob {
            job,
            read: Box::new(move |job| table(&job.dir, &direct, "aggregated_metrics")),
            // The server is stopped after the tests.
            drop: Box::new(|_| {}),
        }
    });
}

#[test]
fn rows_are_there_once_although_runs_are_killed_at_requests_to_the_bucket_of_their_checkpoint() {
    let Some(server) = server("EVT_S3") else { return };
    rows_are_there_once(host_of(&server), |name, address| {
        let dir = Dir::new(&format!("remote-s3-{name}"));
        let place = CheckpointLocation::bucket(&dir).expect("a server");
        let name = place.name.replacen(host_of(&server), address, 1);
        let job = Job::in_place(dir, CheckpointLocation { name, ..place }, &OUTPUTS);
        RemoteJob {
            job,
            read: Box::new(|job| {
                let mut rows: Vec<String> = job.results().into_values().flatten().collect();
                rows.sort();
                rows
            }),
            drop: Box::new(|_| {}),
        }
    });
}

#[test]
fn records_of_topics_are_there_once_although_runs_are_killed_at_requests_to_the_broker() {
    let Some(bench) = Bench::new("remote-kafka") else { return };
    let (brokers, prefix) = (bench.brokers.clone(), bench.prefix.clone());
    rows_are_there_once(&brokers, |name, address| {
        let direct =
            || Bench { brokers: brokers.clone(), prefix: prefix.clone(), dir: Dir::new("remote-kafka-topics") };
        let (of_read, of_drop, of_job) = (direct(), direct(), Bench { brokers: address.to_owned(), ..direct() });
        let topics = Rc::new(Topics::new(&of_read, name));
        let (job, dropped) = (topics.job(&of_job, &format!("remote-kafka-{name}")), topics.clone());
        RemoteJob {
            job,
            read: Box::new(move |_| {
                let mut rows: Vec<String> = topics.results(&of_read).into_values().flatten().collect();
                rows.sort();
                rows
            }),
            drop: Box::new(move |_| dropped.delete(&of_drop)),
        }
    });
}
