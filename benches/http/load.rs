//! Sends batches of events over connections that stay open, and tells what each cost the server.
//!
//! ```sh
//! load HOST:PORT PID [SECONDS]     # PID is the server's: its CPU time is read from /proc
//! load sync DIR [SECONDS]          # how often a second 4 KiB can be appended and made durable in DIR
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Clock ticks a second, as Linux counts them for everybody.
const TICKS: f64 = 100.0;

fn event(number: u64) -> String {
    format!(
        "{{\"event_id\":\"00000000-0000-4000-8000-{number:012}\",\"source\":\"ios\",\"event_type\":\"purchase\",\
         \"user_id\":\"user-{}\",\"client_timestamp\":\"2024-01-15T10:00:00.123Z\",\"properties\":{{\"country\":\"DE\",\
         \"amount\":{}.50,\"currency\":\"EUR\",\"page\":\"/checkout/confirm?step=3\",\"items\":[1,2,3],\
         \"campaign\":\"spring sale of last year\",\"latency_ms\":{},\"ok\":true}}}}",
        number % 1000,
        number % 97,
        number % 250
    )
}

fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// Reads one answer: its status.
fn answer(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<u16> {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        match text.strip_prefix("content-length:") {
            Some(told) => length = told.trim().parse().unwrap_or(0),
            None if text.starts_with("http/1.1 ") => status = text[9..12].parse().unwrap_or(0),
            None if text.is_empty() => break,
            None => {}
        }
    }
    body.resize(length, 0);
    io::Read::read_exact(reader, body)?;
    Ok(status)
}

/// Sends one batch after another until it is time; how many events were taken, and how many requests were not.
fn send(host: &str, batch: u64, until: Instant, first: u64) -> io::Result<(u64, u64)> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let events: Vec<String> = (first..first + batch).map(event).collect();
    let body = format!("{{\"events\":[{}]}}", events.join(","));
    let head = "POST /v1/events HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let (mut taken, mut refused, mut answered) = (0, 0, vec![]);
    while Instant::now() < until {
        stream.write_all(request.as_bytes())?;
        match answer(&mut reader, &mut answered)? {
            200 => taken += batch,
            _ => refused += 1,
        }
    }
    Ok((taken, refused))
}

/// Appends and syncs until it is time; tells the rate.
fn sync(dir: &str, seconds: u64) -> io::Result<()> {
    let mut file = std::fs::File::create(format!("{dir}/sync"))?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    println!("fdatasync: {:.0} a second", f64::from(count) / start.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, host, pid, rest @ ..] = &args[..] else {
        return Err(io::Error::other("load HOST:PORT PID [SECONDS], load sync DIR [SECONDS]"));
    };
    let seconds = rest.first().and_then(|text| text.parse().ok()).unwrap_or(5);
    if host == "sync" {
        return sync(pid, seconds);
    }
    for batch in [1, 10, 100, 1000] {
        let connections = if batch >= 100 { 8 } else { 32 };
        let (before, start) = (cpu_seconds(pid), Instant::now());
        let until = start + Duration::from_secs(seconds);
        let sent: Vec<_> = std::thread::scope(|scope| {
            let send = |n: u64| scope.spawn(move || send(host, batch, until, 1 + n * 1_000_000));
            let running: Vec<_> = (0..connections).map(send).collect();
            running.into_iter().filter_map(|one| one.join().ok()).collect()
        });
        let sent = sent.into_iter().collect::<io::Result<Vec<_>>>()?;
        let (taken, refused) = sent.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds(pid) - before);
        println!(
            "batch {batch:4}: {:9.0} events/s, {:9.0} events per CPU-second of the server, {refused} requests refused",
            taken as f64 / wall,
            taken as f64 / cpu
        );
    }
    Ok(())
}
