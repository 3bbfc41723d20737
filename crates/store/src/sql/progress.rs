//! The table `metric_progress`: how far the metrics of pipelines are.

use super::{SqlConnection, SqlValue, list};
use crate::OpenOptions;
use crate::progress::KeptProgress;
use evt_core::frame::MetricProgress;
use evt_core::time::format_instant;

/// The table.
pub const TABLE: &str = "metric_progress";

/// Keeps how far metrics are, in the transaction of their rows. A run that continues another one, or that reads its
/// inputs from their beginning, changes nothing about the instant since which the store is complete.
pub fn record<C: SqlConnection>(tx: &C, options: &OpenOptions, metrics: &[MetricProgress]) -> Result<(), C::Failure> {
    if metrics.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO metric_progress (pipeline, metric_name, size, slide, gap, lateness, out_of_orderness, watermark,
            complete_since, updated_at)
        SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
            CAST(value ->> 6 AS {instant}), CAST(value ->> 7 AS {instant}), CAST($3 AS {instant})
        FROM {each}($2) WHERE true
        ON CONFLICT (pipeline, metric_name) DO UPDATE
        SET size = excluded.size, slide = excluded.slide, gap = excluded.gap, lateness = excluded.lateness,
            out_of_orderness = excluded.out_of_orderness, watermark = excluded.watermark,
            complete_since = coalesce(excluded.complete_since, metric_progress.complete_since),
            updated_at = excluded.updated_at",
        instant = C::INSTANT,
        each = C::EACH
    );
    let row = |metric: &MetricProgress| {
        let MetricProgress { metric, size, slide, gap, lateness, out_of_orderness, watermark, complete_since } = metric;
        let [watermark, since] = [watermark, complete_since].map(|instant| instant.map(format_instant));
        serde_json::json!([metric, size, slide, gap, lateness, out_of_orderness, watermark, since])
    };
    let rows: SqlValue = list(&Vec::from_iter(metrics.iter().map(row)));
    let now = format_instant((options.clock)());
    tx.execute(&sql, &[(&options.pipeline).into(), rows, (&now).into()]).map(drop)
}

/// Returns what is kept of these metrics; nothing if an older version has made the tables.
pub fn kept<C: SqlConnection>(connection: &C, metrics: &[String]) -> Result<Vec<KeptProgress>, C::Failure> {
    if !connection.has_table(TABLE)? {
        return Ok(vec![]);
    }
    let sql = format!(
        "SELECT pipeline, metric_name, size, slide, gap, lateness, out_of_orderness, watermark, complete_since
        FROM metric_progress WHERE metric_name IN (SELECT value ->> 0 FROM {each}($1)) ORDER BY pipeline, metric_name",
        each = C::EACH
    );
    let names: Vec<[&str; 1]> = metrics.iter().map(|name| [name.as_str()]).collect();
    let rows = connection.query(&sql, &[list(&names)])?;
    let kept = rows.into_iter().map(|row| {
        let text = |column: usize| row.text(column).map(str::to_owned);
        KeptProgress {
            pipeline: text(0).unwrap_or_default(),
            metric: MetricProgress {
                metric: text(1).unwrap_or_default(),
                size: text(2),
                slide: text(3),
                gap: text(4),
                lateness: text(5).unwrap_or_default(),
                out_of_orderness: text(6),
                watermark: row.instant(7),
                complete_since: row.instant(8),
            },
        }
    });
    Ok(kept.collect())
}
