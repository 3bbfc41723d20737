//! The table `metric_progress`: how far the metrics of pipelines are.

use super::{SqlConnection, SqlValue, list};
use crate::OpenOptions;
use crate::progress::KeptProgress;
use evt_core::frame::MetricProgress;
use evt_core::kind::Kind;
use evt_core::time::format_instant;

/// The table.
pub const TABLE: &str = "metric_progress";

/// Keeps how far metrics are, in the transaction of their rows. A run that continues another one, or that reads its
/// inputs from their beginning, changes nothing about the instant since which the store is complete.
///
/// The out-of-orderness becomes NULL, and stays so, once the rows of a metric are of several: the windows or the bound
/// change, or an older version has written rows before the first record. Rows of a correction may come before it, too:
/// the history of a metric that is new. A user who may not read corrections takes them for rows of an older version.
pub fn record<C: SqlConnection>(tx: &C, options: &OpenOptions, metrics: &[MetricProgress]) -> Result<(), C::Failure> {
    if metrics.is_empty() {
        return Ok(());
    }
    let not_corrected = match tx.may_select("corrections")? {
        true => "AND NOT EXISTS (SELECT 1 FROM corrections own WHERE old.run IN (own.id, own.run))",
        false => "",
    };
    let sql = format!(
        "INSERT INTO metric_progress (pipeline, metric_name, size, slide, gap, lateness, out_of_orderness, watermark,
            complete_since, updated_at)
        SELECT $1, one.value ->> 0, one.value ->> 1, one.value ->> 2, one.value ->> 3, one.value ->> 4,
            CASE WHEN EXISTS (SELECT 1 FROM metric_progress other WHERE other.metric_name = one.value ->> 0)
                OR NOT EXISTS (SELECT 1 FROM aggregated_metrics old WHERE old.metric_name = one.value ->> 0 AND old.run <> $4
                    {not_corrected})
                THEN one.value ->> 5 END,
            CAST(one.value ->> 6 AS {instant}), CAST(one.value ->> 7 AS {instant}), CAST($3 AS {instant})
        FROM {each}($2) AS one WHERE true
        ON CONFLICT (pipeline, metric_name) DO UPDATE
        SET size = excluded.size, slide = excluded.slide, gap = excluded.gap, lateness = excluded.lateness,
            out_of_orderness = CASE WHEN (metric_progress.size, metric_progress.slide, metric_progress.gap,
                    metric_progress.lateness, metric_progress.out_of_orderness)
                IS NOT DISTINCT FROM
                    (excluded.size, excluded.slide, excluded.gap, excluded.lateness, excluded.out_of_orderness)
                THEN excluded.out_of_orderness END,
            watermark = excluded.watermark,
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
    tx.execute(&sql, &[(&options.pipeline).into(), rows, (&now).into(), (&options.run).into()]).map(drop)
}

/// Returns what is kept of these metrics, and [`KeptProgress::of_rows`] for one that has rows and no record.
pub fn kept<C: SqlConnection>(connection: &C, metrics: &[String]) -> Result<Vec<KeptProgress>, C::Failure> {
    let mut kept = if connection.has_table(TABLE)? { recorded(connection, metrics)? } else { vec![] };
    if connection.has_table(Kind::Metric.table())? {
        for name in metrics {
            let sql = "SELECT 1 FROM aggregated_metrics WHERE metric_name = $1 LIMIT 1";
            let is_recorded = kept.iter().any(|kept| kept.metric.metric == *name);
            if !is_recorded && !connection.query(sql, &[name.into()])?.is_empty() {
                kept.push(KeptProgress::of_rows(name));
            }
        }
    }
    Ok(kept)
}

fn recorded<C: SqlConnection>(connection: &C, metrics: &[String]) -> Result<Vec<KeptProgress>, C::Failure> {
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
