//! `--rate` of evt-backfill and evt-replay: how many rows are processed in a second.

use evt_core::error::Result;
use evt_run::run::Run;
use std::time::Duration;

/// `--rate`: limits how many rows are processed in a second.
pub struct Pace {
    /// Rows per second.
    pub rate: Option<u64>,
    /// Rows so far, and the monotonic time of the first one.
    rows: u64,
    began: Option<Duration>,
}

impl Pace {
    /// Begins without rows.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, rows: 0, began: None }
    }

    /// Waits until the rows so far are no more than the rate permits, or until a signal; then counts `rows` more.
    pub fn wait(&mut self, rows: u64, run: &Run) -> Result<()> {
        let Some(rate) = self.rate else { return Ok(()) };
        let now = run.clock.monotonic();
        let elapsed = now.saturating_sub(*self.began.get_or_insert(now));
        let due = Duration::from_secs_f64(self.rows as f64 / rate as f64);
        self.rows += rows;
        run.stop.sleep(due.saturating_sub(elapsed)).map(|_| ())
    }
}
