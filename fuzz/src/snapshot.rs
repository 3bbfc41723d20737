//! Saved state: damaged bytes are an error, and whatever is taken for state can be gone on with and saved again.

use super::cuts::chosen;
use super::record::events;
use evt_core::op::aggregate::{self, Definition};
use evt_core::op::dedup::{self, Dedup};
use evt_core::op::state_storage::{MemoryBound, MemoryStorage};
use evt_core::op::window::metric::Emit;
use evt_core::op::window::{Options, Window, spec, watermark};

/// Every aggregate, and every kind of window.
fn metrics() -> String {
    let metric = |row: &&Definition| format!("[[metric]]\naggregate = '{}'\n", row.example("a"));
    let calls: String = aggregate::ALL.iter().map(metric).collect();
    format!(
        "[defaults]\nsize = '10s'\nslide = '5s'\nby = ['k']\nlateness = '1m'\n{calls}\
         [[metric]]\nname = 's'\naggregate = 'sum(a)'\ngap = '2s'\n"
    )
}

/// The options of the windows of this target.
pub fn options() -> Options {
    let spec = spec::file(&metrics()).expect("a spec");
    let watermark = watermark::Options { out_of_orderness: Some(0), explicit: false, new_partitions: true };
    Options {
        leaves: spec.leaves,
        metrics: spec.metrics,
        watermark,
        emit: Emit::Panes,
        memory: None,
        parallelism: Default::default(),
    }
}

/// The span within which the repeats of this target are found.
pub fn span() -> dedup::Options {
    let storage = Box::new(MemoryStorage::default());
    dedup::Options { span: 60_000_000, memory: MemoryBound { bytes: 8 << 20, storage } }
}

/// The first byte chooses the operator, `d` for dedup; the rest is its saved form.
pub fn run(input: &[u8]) {
    match chosen(input) {
        Some((b'd', saved)) => repeats(saved),
        Some((_, saved)) => windows(saved),
        None => {}
    }
}

fn windows(saved: &[u8]) {
    let Ok(mut window) = Window::restore(options(), saved) else { return };
    let again = window.snapshot();
    let mut twice = Window::restore(options(), &again).expect("what was saved");
    assert_eq!(twice.snapshot(), again, "a saved form is stable");
    let batch = events(["{\"a\":1,\"k\":\"x\"}", "{\"a\":2.5,\"k\":null}", "{\"a\":3}"].into_iter());
    if window.on_batch(&batch, 0).is_ok() {
        window.fire(&mut |_| Ok(())).expect("results");
        window.on_exhausted(&mut |_| Ok(())).expect("results");
        let _ = window.snapshot();
    }
}

fn repeats(saved: &[u8]) {
    let Ok(mut dedup) = Dedup::restore(span(), saved) else { return };
    let again = dedup.snapshot();
    let twice = Dedup::restore(span(), &again).expect("what was saved");
    assert_eq!(twice.snapshot(), again, "a saved form is stable");
    let batch = events(["{\"a\":1}", "{\"a\":2}"].into_iter());
    assert_eq!(dedup.on_batch(&batch).expect("verdicts").len(), batch.num_rows());
    dedup.snapshot();
}
