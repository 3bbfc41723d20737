//! The progress line on stderr: one per pipeline, if stderr is a terminal.
//!
//! The last stage, whose standard output is not a pipe, draws it from the source's progress frames.

use evt_core::frame::Progress;
use evt_run::clock::Clock;
use evt_run::run::Run;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::time::Duration;

/// Minimum interval between two updates.
const EVERY: Duration = Duration::from_millis(200);

/// The progress line of a stage, drawn or not.
pub struct ProgressLine {
    /// `None` if the line is not drawn.
    bar: Option<ProgressBar>,
    clock: Clock,
    rows: u64,
    /// Whether the bar shows the share of rows.
    is_of_rows: bool,
    /// Monotonic time at which counting began.
    start: Duration,
    /// Monotonic time of the next update.
    next: Duration,
}

impl ProgressLine {
    /// Creates a line; it is drawn if stderr is a terminal and no later stage draws it.
    pub fn new(run: &Run, quiet: bool) -> Self {
        let watched = !quiet && !run.console.is_json() && run.io.has_terminal_for_messages() && !run.io.has_pipe();
        let bar = watched.then(|| ProgressBar::new_spinner().with_style(style("{spinner} {elapsed} {msg}")));
        run.console.set_progress(bar.clone());
        let start = run.clock.monotonic();
        Self { bar, clock: run.clock.clone(), rows: 0, is_of_rows: false, start, next: start + EVERY }
    }

    /// Removes the line for good.
    pub fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Whether the line is drawn.
    pub fn is_drawn(&self) -> bool {
        self.bar.is_some()
    }

    /// Sets the number of rows that are expected, for inputs whose length in bytes is not known.
    pub fn expect_rows(&mut self, total: u64) {
        if let Some(bar) = self.bar.as_ref().filter(|_| total > 0) {
            bar.set_style(style("{bar:30} {percent}% eta {eta} {msg}"));
            bar.set_length(total);
            self.is_of_rows = true;
        }
    }

    /// Counts rows, and updates the line if the interval has passed.
    pub fn rows(&mut self, count: usize) {
        self.rows += count as u64;
        let Some(bar) = &self.bar else { return };
        let now = self.clock.monotonic();
        if now >= self.next {
            self.next = now + EVERY;
            let rate = self.rows as f64 / now.saturating_sub(self.start).as_secs_f64();
            if self.is_of_rows {
                bar.set_position(self.rows);
            }
            bar.set_message(format!("{} rows, {}/s", HumanCount(self.rows), HumanCount(rate as u64)));
            bar.tick();
        }
    }

    /// Shows how much of the work is done, and the time that is left.
    pub fn part(&mut self, done: u64, total: u64) {
        self.show("{bar:30} {percent}% eta {eta} {msg}", done, total);
    }

    /// Shows the progress of the source.
    pub fn progress(&mut self, progress: &Progress) {
        // Inputs report in turns, some of them without a total: the bar keeps the last total.
        if let Some(total) = progress.bytes_total.filter(|total| *total > 0) {
            self.show("{bar:30} {percent}% {bytes}/{total_bytes} eta {eta} {msg}", progress.bytes_done, total);
        }
    }

    fn show(&self, template: &str, done: u64, total: u64) {
        let Some(bar) = &self.bar else { return };
        if bar.length() != Some(total) {
            bar.set_style(style(template));
            bar.set_length(total);
        }
        bar.set_position(done);
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.hide();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
