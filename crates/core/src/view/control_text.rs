//! Formats control messages as text: a line of JSON, or a note between the rows of a table.

use crate::frame::{self, Control, End, EndReason, MetricProgress, PartitionState, Progress};
use crate::parse::printable::clean;
use crate::time::format_instant;
use serde_json::{Value, json};

/// Returns a control message as a line of JSON with a newline: `{"$evt":{"watermark":"2024-01-15T10:00:00.000000Z"}}`.
pub fn line(control: &Control) -> String {
    let message = match control {
        Control::Watermark(instant) => json!({"watermark": format_instant(*instant)}),
        Control::Progress(progress) => json!({"progress": progress_json(progress)}),
        Control::Barrier(barrier) => json!({"barrier": barrier}),
        Control::Metrics(metrics) => json!({"metrics": metrics.iter().map(metric_json).collect::<Vec<_>>()}),
        Control::End(end) => json!({"end": end}),
    };
    format!("{}\n", json!({"$evt": message}))
}

fn metric_json(metric: &MetricProgress) -> Value {
    let mut shown = json!(metric);
    shown["watermark"] = json!(metric.watermark.map(format_instant));
    shown["complete_since"] = json!(metric.complete_since.map(format_instant));
    shown
}

fn progress_json(progress: &Progress) -> Value {
    let partition = |one: &PartitionState| {
        json!({
            "origin": one.origin,
            "partition": one.partition,
            "stream_time": one.stream_time.map(format_instant),
            "state": one.state,
        })
    };
    json!({
        "partitions": progress.partitions.iter().map(partition).collect::<Vec<_>>(),
        "complete": progress.complete,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
    })
}

/// Returns a control message as a note with a newline: `── watermark 2024-01-15T10:00:00.000000Z`.
pub fn note(control: &Control) -> String {
    let text = match control {
        Control::Watermark(instant) => format!("watermark {}", format_instant(*instant)),
        Control::Progress(progress) => progress_note(progress),
        Control::Barrier(barrier) => format!("barrier {}.{}", barrier.run, barrier.number),
        Control::Metrics(metrics) => {
            let shown = |metric: &MetricProgress| {
                format!("{} {}", metric.metric, metric.watermark.map_or("not begun".to_owned(), format_instant))
            };
            format!("metrics: {}", Vec::from_iter(metrics.iter().map(shown)).join("; "))
        }
        Control::End(End { how, rows, verdict }) => {
            let how = if *how == EndReason::Stopped { "stopped" } else { "exhausted" };
            format!("end: {how}, {rows} rows, verdict {verdict}")
        }
    };
    format!("── {}\n", clean(&text))
}

fn progress_note(progress: &Progress) -> String {
    let mut parts = vec![];
    if progress.bytes_done > 0 || progress.bytes_total.is_some() {
        let total = progress.bytes_total.map_or(String::new(), |total| format!(" of {total}"));
        parts.push(format!("{}{total} bytes", progress.bytes_done));
    }
    for one in &progress.partitions {
        let state = match one.state {
            frame::State::Live => "",
            frame::State::Idle => " idle",
            frame::State::Ended => " ended",
        };
        let time = one.stream_time.map_or("not begun".to_owned(), format_instant);
        parts.push(format!("{}/{} {time}{state}", one.origin, one.partition));
    }
    if progress.complete {
        parts.push("all partitions known".to_owned());
    }
    format!("progress: {}", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_line_is_what_control_input_accepts() {
        assert_eq!(line(&Control::Watermark(0)), "{\"$evt\":{\"watermark\":\"1970-01-01T00:00:00.000000Z\"}}\n");
    }

    #[test]
    fn a_note_cannot_drive_the_terminal() {
        let partition = PartitionState {
            input: 0,
            origin: "a\u{1b}[2J\n".to_owned(),
            partition: "0".to_owned(),
            stream_time: Some(0),
            state: frame::State::Ended,
        };
        let progress = Progress { partitions: vec![partition], complete: true, bytes_done: 5, bytes_total: None };
        let note = note(&Control::Progress(progress));
        let wanted = "── progress: 5 bytes; a␛[2J␊/0 1970-01-01T00:00:00.000000Z ended; all partitions known\n";
        assert_eq!(note, wanted);
    }
}
