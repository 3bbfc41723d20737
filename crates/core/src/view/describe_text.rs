//! Formats a description for a terminal: one screen, the most important first.

use super::describe::{Description, Nulls, Values};
use super::disorder::{Described, Lateness};
use crate::format::table::aligned;
use crate::time::format_duration;

/// Returns the description as text for a terminal `width` cells wide.
pub fn report(description: &Description, width: Option<usize>) -> String {
    let mut out = aligned(&heading(description), &[], width);
    if let Some(disorder) = description.disorder.as_ref().filter(|disorder| disorder.total.out_of_order > 0) {
        out.push('\n');
        out.push_str(&aligned(&partitions(disorder), &[1, 2, 3, 4, 5], width));
    }
    for values in description.values.iter().filter(|values| values.distinct > 0) {
        out.push('\n');
        out.push_str(&aligned(&frequent(values, description.rows), &[0, 1], width));
    }
    out.push('\n');
    out.push_str(&aligned(&nulls("column", &description.columns), &[1, 2], width));
    if let Some(paths) = description.paths.as_ref().filter(|paths| !paths.most_frequent.is_empty()) {
        let more = if paths.more { "more than " } else { "" };
        out.push_str(&format!("\n{more}{} paths in {}\n", paths.distinct, paths.column));
        out.push_str(&aligned(&nulls("path", &paths.most_frequent), &[1, 2], width));
    }
    out
}

fn heading(description: &Description) -> Vec<[String; 2]> {
    let mut lines = vec![["rows".to_owned(), format!("{} of kind {}", description.rows, description.kind)]];
    if let Some(time) = &description.time {
        lines.push([time.column.to_owned(), format!("{} to {}", time.first, time.last)]);
        if let Some(rate) = time.rows_per_second {
            let span = duration(time.seconds * 1e3);
            lines.push(["rate".to_owned(), format!("{} rows/s over {span}", three_digits(rate))]);
        }
    }
    if let Some(disorder) = &description.disorder {
        let Lateness { out_of_order, lateness_ms_p50, lateness_ms_p99, lateness_ms_max, .. } = disorder.total;
        let share = percent(disorder.total.out_of_order_share);
        let many = if disorder.partitions == 1 { "" } else { "s" };
        lines.push(["disorder".to_owned(), format!("{share} out of order in {} partition{many}", disorder.partitions)]);
        if out_of_order > 0 {
            let [p50, p99, max] = [lateness_ms_p50, lateness_ms_p99, lateness_ms_max].map(duration);
            lines.push(["lateness".to_owned(), format!("{p50} (p50), {p99} (p99), {max} (max)")]);
        }
    }
    lines
}

fn partitions(disorder: &Described) -> Vec<[String; 6]> {
    let mut lines = vec![["partition", "rows", "out of order", "p50", "p99", "max"].map(str::to_owned)];
    for one in &disorder.most_out_of_order {
        let Lateness { rows, out_of_order_share, lateness_ms_p50, lateness_ms_p99, lateness_ms_max, .. } = one.lateness;
        let [p50, p99, max] = [lateness_ms_p50, lateness_ms_p99, lateness_ms_max].map(duration);
        let name = format!("{}/{}", one.origin, one.partition);
        lines.push([name, rows.to_string(), percent(out_of_order_share), p50, p99, max]);
    }
    lines
}

fn frequent(values: &Values, rows: u64) -> Vec<[String; 3]> {
    let about = if values.exact { "" } else { "about " };
    let title = format!("{} ({about}{} different)", values.column, values.distinct);
    let mut lines = vec![["rows".to_owned(), "share".to_owned(), title]];
    for (value, count) in &values.most_frequent {
        lines.push([count.to_string(), percent(super::disorder::share(*count, rows)), value.clone()]);
    }
    lines
}

fn nulls(title: &str, columns: &[Nulls]) -> Vec<[String; 3]> {
    let mut lines = vec![[title, "null", "share"].map(str::to_owned)];
    for column in columns {
        lines.push([column.name.clone(), column.nulls.to_string(), percent(column.null_share)]);
    }
    lines
}

/// Formats a share as percent with a useful number of digits; a share above 0 never prints as 0.
fn percent(share: f64) -> String {
    match share {
        0.0 => "0%".to_owned(),
        share if share < 0.0001 => "<0.01%".to_owned(),
        share if share < 0.1 => format!("{:.2}%", share * 100.0),
        share => format!("{:.1}%", share * 100.0),
    }
}

fn three_digits(number: f64) -> String {
    match number {
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 1.0 => format!("{number:.1}"),
        number => format!("{number:.3}"),
    }
}

/// Formats milliseconds as a duration of about three digits.
fn duration(ms: f64) -> String {
    let micros = ms * 1e3;
    let step = [86_400e6, 3_600e6, 60e6, 1e6, 1e3].into_iter().find(|unit| micros >= 100.0 * unit).unwrap_or(1.0);
    let step = if micros >= 10e6 && step < 1e6 { 1e5 } else { step };
    // Spans of the calendar fit into 63 bits of microseconds.
    format_duration(((micros / step).round() * step) as i64)
}
