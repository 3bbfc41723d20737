//! Expressions and metrics: text from a user, values from events; a row's value is its own, whatever its neighbours.

use super::record::events;
use arrow::array::RecordBatch;
use evt_core::expr::{Expr, Filter, LeafBatch, Leaves, ValueKind, Want};
use evt_core::kind::Kind;
use evt_core::op::aggregate;
use evt_core::op::window::metric::Emit;
use evt_core::op::window::{Options, Window, spec, watermark};

/// A line with an expression, then lines with the properties of events.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, properties) = text.split_once('\n').unwrap_or((text, "{}\n{\"a\":1,\"b\":\"x\",\"c\":{\"d\":[1]}}"));
    let mut leaves = Leaves::new(&Kind::Event.schema());
    for want in [Want::Presence, Want::AsText, Want::Kind(ValueKind::Number), Want::Decimal] {
        if let Ok(expr) = Expr::parse(text, want, &mut leaves) {
            let _ = expr.explain(&leaves);
            // The printed text means the same.
            let again = Expr::parse(expr.text(), want, &mut leaves).expect("what is printed is read");
            assert_eq!((again.text(), again.kind()), (expr.text(), expr.kind()), "{text:?}");
            assert_eq!(again.explain(&leaves), expr.explain(&leaves), "{text:?}");
        }
    }
    if let Ok(call) = aggregate::parse(text, &mut leaves) {
        let again = aggregate::parse(call.text(), &mut leaves).expect("what is printed is read");
        assert_eq!(again.text(), call.text());
    }
    let batch = events(properties.lines().take(16));
    for want in [Want::AsText, Want::Kind(ValueKind::Number), Want::Decimal] {
        let Ok(expr) = Expr::parse(text, want, &mut leaves) else { continue };
        let read = LeafBatch::read(&leaves, &batch).expect("leaves");
        let values = expr.eval(&read).expect("values");
        assert_eq!(values.len(), batch.num_rows());
    }
    if let Ok(mut filter) = Filter::new(text, &Kind::Event.schema()) {
        by_row(&mut filter, &batch);
    }
}

fn by_row(filter: &mut Filter, batch: &RecordBatch) {
    let whole = filter.apply(batch).expect("a verdict");
    for row in 0..batch.num_rows() {
        let one = filter.apply(&batch.slice(row, 1)).expect("a verdict");
        assert_eq!(one.keep.value(0), whole.keep.value(row), "row {row}");
        assert_eq!(one.wrong.get(&0), whole.wrong.get(&row), "row {row}");
    }
}

/// The longest window that is run: what slides finely makes many of them.
const WINDOWS_MAX: i64 = 1_000;

/// A metrics.toml: refused with a reason, or explained, run over events, saved and restored.
pub fn metrics(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(read) = spec::file(text) else { return };
    assert!(!read.explain().is_empty());
    let few = |metric: &evt_core::op::window::metric::Metric| match metric.shape {
        evt_core::op::window::metric::Shape::Sliding { size, slide, .. } => size / slide <= WINDOWS_MAX,
        evt_core::op::window::metric::Shape::Calendar(_) | evt_core::op::window::metric::Shape::Session { .. } => true,
    };
    if !read.metrics.iter().all(few) {
        return;
    }
    let mut window = Window::new(options(text));
    let batch = events(["{\"a\":1,\"k\":\"x\"}", "{\"a\":-1e300,\"k\":null}", "{\"a\":\"text\"}"].into_iter());
    let outcome = window.on_batch(&batch, 0).expect("rows");
    let outcomes = outcome.counted + outcome.late_rows + outcome.filtered + outcome.dead;
    assert_eq!(outcomes, batch.num_rows() as u64, "one outcome each");
    let saved = window.snapshot();
    let mut restored = Window::restore(options(text), &saved).expect("what was saved");
    assert_eq!(restored.snapshot(), saved);
    assert_eq!(fired(&mut restored), fired(&mut window));
}

fn options(text: &str) -> Options {
    let spec = spec::file(text).expect("it was read before");
    let watermark = watermark::Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
    Options {
        leaves: spec.leaves,
        metrics: spec.metrics,
        watermark,
        emit: Emit::Panes,
        memory: None,
        parallelism: Default::default(),
    }
}

fn fired(window: &mut Window) -> Vec<String> {
    let mut rows = vec![];
    let mut emit = |row: &evt_core::kind::metric::Row<'_>| {
        rows.push(format!("{} {} {} {} {:?} {}", row.name, row.start, row.end, row.dimensions, row.value, row.rows));
        Ok(())
    };
    window.on_exhausted(&mut emit).expect("results");
    rows
}
