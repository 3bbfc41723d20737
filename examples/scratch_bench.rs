use arrow::array::*;
use arrow::datatypes::Int32Type;
use evt::{kind::Kind, store::*};
use std::sync::Arc;
fn cpu() -> f64 {
    let t = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = t.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn ts(v: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(v).with_timezone("UTC"))
}
fn word(n: usize, s: &str) -> ArrayRef {
    let mut b = StringDictionaryBuilder::<Int32Type>::new();
    for _ in 0..n {
        b.append_value(s)
    }
    Arc::new(b.finish())
}
fn h(n: u64, s: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&n.to_le_bytes(), s)
}
fn id(n: u64) -> [u8; 16] {
    let mut o = [0; 16];
    o[..8].copy_from_slice(&h(n, 1).to_le_bytes());
    o[8..].copy_from_slice(&h(n, 2).to_le_bytes());
    o
}
fn events(from: u64, n: usize) -> RecordBatch {
    let r = || from..from + n as u64;
    let t: Vec<i64> = r().map(|i| 1_705_276_800_000_000 + i as i64 * 1000).collect();
    let s = |f: &dyn Fn(u64) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(r().map(f))) };
    RecordBatch::try_new(Kind::Event.schema(), vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(r().map(id)).unwrap()), s(&|i| ["ios", "web", "android"][(h(i, 3) % 3) as usize].into()), s(&|i| format!("type_{}", h(i, 4) % 12)), s(&|i| format!("user_{}", h(i, 5) % 500_000)),
        s(&|i| format!(r#"{{"country":"{}","page":"/p/{}","price":{}.{:02},"sid":"{:016x}","ref":"https://example.com/{}/x","ua":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36","n":{}}}"#, ["DE", "US", "FR"][(h(i, 6) % 3) as usize], h(i, 7) % 1000, h(i, 8) % 100, h(i, 9) % 100, h(i, 10), h(i, 11) % 50, i)),
        ts(t.iter().map(|t| t - 500).collect()), ts(t.clone()), ts(vec![1_705_276_800_000_000; n]), ts(t.clone()), word(n, "events.jsonl"), word(n, "0"), Arc::new(Int64Array::from_iter_values(r().map(|i| i as i64 + 1))), ts(t), Arc::new(Int64Array::from(vec![None; n])),
    ]).unwrap()
}
fn metrics(from: u64, n: usize, rows: i64) -> RecordBatch {
    let r = || from..from + n as u64;
    let st: Vec<i64> = r().map(|i| 1_705_276_800_000_000 + (i / 36) as i64 * 60_000_000).collect();
    let dim: Vec<String> =
        r().map(|i| format!(r#"{{"country":"C{}","event_type":"t{}"}}"#, i % 6, i / 6 % 6)).collect();
    let ids: Vec<[u8; 16]> =
        st.iter().zip(&dim).map(|(s, d)| evt::kind::metric::metric_id("per_minute", *s, s + 60_000_000, d)).collect();
    RecordBatch::try_new(
        Kind::Metric.schema(),
        vec![
            Arc::new(FixedSizeBinaryArray::try_from_iter(ids.iter()).unwrap()),
            Arc::new(StringArray::from(vec!["per_minute"; n])),
            ts(st.clone()),
            ts(st.iter().map(|s| s + 60_000_000).collect()),
            Arc::new(StringArray::from(dim)),
            Arc::new(Float64Array::from(vec![rows as f64; n])),
            Arc::new(Int64Array::from(vec![rows; n])),
            Arc::new(Int32Array::from(vec![0; n])),
            Arc::new(Int32Array::from(vec![0; n])),
            Arc::new(BooleanArray::from(vec![false; n])),
        ],
    )
    .unwrap()
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let total: u64 = a[3].parse().unwrap();
    let size = 1024usize;
    let store = by_scheme(&a[1]).unwrap();
    let opts = OpenOptions { pipeline: "p".into(), run: "r".into(), epochs: false, clock: Arc::new(|| 0) };
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let loc = Location { path: dir.path().join("x").display().to_string(), ..Default::default() };
    let kind = if a[2] == "event" { Kind::Event } else { Kind::Metric };
    let batches: Vec<RecordBatch> = (0..total / size as u64)
        .map(|b| if kind == Kind::Event { events(b * size as u64, size) } else { metrics(b * size as u64, size, 1) })
        .collect();
    for round in 0..2 {
        let c = cpu();
        let t = std::time::Instant::now();
        let mut s = (store.open)(&loc, &opts).unwrap();
        for b in &batches {
            s.write(kind, b).unwrap();
        }
        let o = s.finish().unwrap();
        println!(
            "round {round}: {} {:.2} us CPU/row wall {:.2}s",
            o.counts,
            (cpu() - c) * 1e6 / o.counts.taken as f64,
            t.elapsed().as_secs_f64()
        );
    }
    if kind == Kind::Metric {
        let up: Vec<_> = (0..total / size as u64).map(|b| metrics(b * size as u64, size, 2)).collect();
        let c = cpu();
        let mut s = (store.open)(&loc, &opts).unwrap();
        for b in &up {
            s.write(kind, b).unwrap();
        }
        let o = s.finish().unwrap();
        println!("update: {} {:.2} us", o.counts, (cpu() - c) * 1e6 / o.counts.taken as f64);
    }
    let c = cpu();
    let n: usize = (store.read)(&loc, kind).unwrap().map(|b| b.unwrap().num_rows()).sum();
    println!("read {n}: {:.2} us/row", (cpu() - c) * 1e6 / n as f64);
    println!(
        "peak {}",
        std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmHWM")).unwrap()
    );
    let sz: u64 = std::process::Command::new("du")
        .arg("-sb")
        .arg(dir.path())
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).split_whitespace().next().unwrap().parse().unwrap())
        .unwrap();
    println!("bytes/row {:.0}", sz as f64 / total as f64);
}
