//! The vectors by which the tests of `flink/` prove that its aggregates are these: values, the saved state, the result.

use super::*;
use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/flink/aggregates.jsonl");
const BLESS: &str = "EVT_BLESS=1 cargo test -p evt-core vectors";

/// A generator of numbers with every magnitude (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number as a record has it.
    fn written(&mut self) -> String {
        let digits = self.next() % 10u64.pow(1 + (self.next() % 18) as u32);
        let sign = if self.next().is_multiple_of(3) { "-" } else { "" };
        match self.next() % 8 {
            0 => format!("{sign}{digits}"),
            1 => format!("{sign}{digits}{:018}", self.next() % 1_000_000_000_000_000_000),
            2 => format!("{sign}{digits}.{}", self.next()),
            3 => format!("{sign}{digits}e{}", self.next() as i64 % 250),
            4 => format!("{sign}.{digits}"),
            5 => format!("+{digits}.500"),
            6 => format!("{sign}{digits}{:018}{:018}.{}", self.next() % 7, self.next() % 9, self.next()),
            _ => format!("{sign}{}.{:02}", digits % 1000, self.next() % 100),
        }
    }

    /// Returns a double.
    fn double(&mut self) -> f64 {
        match self.next() % 8 {
            0 => f64::from_bits(self.next()),
            1 => (self.next() % 100) as f64 / 8.0,
            2 => f64::from_bits(self.next() % (1 << 52)),
            3 => [f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.0, 1e23, 9_007_199_254_740_993.0][self.next() as usize % 6],
            4 => 2f64.powi((self.next() % 2000) as i32 - 1000),
            _ => (self.next() % 1_000_000) as f64 / 100.0 * if self.next().is_multiple_of(3) { -1.0 } else { 1.0 },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        _ = write!(out, "{byte:02x}");
        out
    })
}

/// Returns the line of a vector.
fn vector(name: &str, q: &str, values: &ArrayRef) -> String {
    let call = if q.is_empty() { format!("{name}(x)") } else { format!("{name}(x, {q})") };
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        "properties",
        arrow::datatypes::DataType::Utf8,
        true,
    )]));
    let call = parse(&call, &mut Leaves::new(&schema)).expect(name);
    let mut aggregate = call.create();
    aggregate.ensure(1);
    let rows: Vec<u32> = (0..values.len() as u32).collect();
    aggregate.add(&vec![0; rows.len()], &rows, std::slice::from_ref(values));
    let mut state = vec![];
    aggregate.save(0, &mut state);
    let values: Vec<Value> = match values.as_string_opt::<i32>() {
        Some(texts) => texts.iter().map(|text| json!(text)).collect(),
        // JSON has neither all doubles nor their bits.
        None => values.as_primitive::<arrow::datatypes::Float64Type>().values().iter().map(bits).collect(),
    };
    let result = aggregate.result(0, 1).as_ref().map(bits);
    let key = if values.first().is_some_and(|first| first.as_str().is_some_and(|text| text.starts_with("0x"))) {
        "doubles"
    } else {
        "texts"
    };
    json!({"aggregate": name, "q": q, key: values, "state": hex(&state), "result": result}).to_string()
}

fn bits(value: &f64) -> Value {
    json!(format!("0x{:016x}", value.to_bits()))
}

fn vectors() -> String {
    let mut random = Random(0x0123_4567_89ab_cdef);
    let mut lines = vec![];
    for round in 0..30 {
        let count = [0, 1, 2, 3, 20][round % 5];
        let texts: ArrayRef = Arc::new((0..count).map(|_| Some(random.written())).collect::<StringArray>());
        let doubles: ArrayRef = Arc::new((0..count).map(|_| Some(random.double())).collect::<Float64Array>());
        let small: ArrayRef =
            Arc::new((0..count).map(|_| Some(format!("{}.{:02}", random.next() % 9, 7))).collect::<StringArray>());
        for name in ["sum", "avg", "stddev"] {
            lines.extend([&texts, &doubles, &small].map(|values| vector(name, "", values)));
        }
        let special = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let mixed = (0..count).map(|at| Some(if at % 7 == 3 { special[round % 3] } else { random.double() }));
        let mixed: ArrayRef = Arc::new(mixed.collect::<Float64Array>());
        lines.extend(["sum", "avg", "stddev"].map(|name| vector(name, "", &mixed)));
        let q = ["0", "0.5", "0.99", "0.29", "1"][random.next() as usize % 5];
        lines.extend([&doubles, &mixed].map(|values| vector("approx_percentile", q, values)));
        lines.push(vector("approx_distinct", "", &texts));
    }
    let many: ArrayRef = Arc::new((0..3000).map(|at| Some(format!("ü{}", at * 7))).collect::<StringArray>());
    lines.push(vector("approx_distinct", "", &many));
    lines.join("\n") + "\n"
}

#[test]
fn the_vectors_of_the_functions_for_flink_are_these_aggregates() {
    let vectors = vectors();
    if std::env::var_os("EVT_BLESS").is_some() {
        std::fs::write(PATH, &vectors).unwrap();
    }
    assert!(std::fs::read_to_string(PATH).unwrap_or_default() == vectors, "{PATH} is behind the code: {BLESS}");
}
