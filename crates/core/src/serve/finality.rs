//! Whether windows are final, by what stores keep of the progress of metrics.

use crate::frame::MetricProgress;
use crate::kind::span::Span;
use crate::time::parse_duration;

/// How far a metric is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricFinality {
    /// How far each of its pipelines is.
    pipelines: Vec<PipelineProgress>,
    /// The ranges of corrections in flight: their windows may change.
    corrections: Vec<Span>,
}

/// How far a pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PipelineProgress {
    /// The size of its windows (µs); `None` if they have none of their own.
    size: Option<i64>,
    lateness: i64,
    watermark: Option<i64>,
}

impl MetricFinality {
    /// Takes what a store keeps of a metric, and the ranges of the corrections in flight.
    pub fn new<'a>(progress: impl IntoIterator<Item = &'a MetricProgress>, corrections: Vec<Span>) -> Self {
        let duration = |text: &str| parse_duration(text).ok();
        let pipeline = |metric: &MetricProgress| PipelineProgress {
            size: metric.size.as_deref().and_then(duration),
            lateness: duration(&metric.lateness).unwrap_or(0),
            watermark: metric.watermark,
        };
        Self { pipelines: progress.into_iter().map(pipeline).collect(), corrections }
    }

    /// Returns the least watermark of the pipelines (µs); `None` if one has none, or if there is no pipeline.
    pub fn watermark(&self) -> Option<i64> {
        let watermarks: Option<Vec<i64>> = self.pipelines.iter().map(|pipeline| pipeline.watermark).collect();
        watermarks?.into_iter().min()
    }

    /// Whether a window is final: every pipeline with such windows has passed its end and the lateness, and no
    /// correction covers it. `None` if the store does not know.
    pub fn is_final(&self, start: i64, end: i64) -> Option<bool> {
        if self.corrections.iter().any(|range| range.overlaps(Span { since: Some(start), until: Some(end) })) {
            return Some(false);
        }
        let is_of_size = |pipeline: &&PipelineProgress| pipeline.size == Some(end - start);
        let has_size = self.pipelines.iter().any(|pipeline| is_of_size(&pipeline));
        let mut pipelines = self.pipelines.iter().filter(|pipeline| !has_size || is_of_size(pipeline)).peekable();
        pipelines.peek()?;
        let has_passed =
            |pipeline: &PipelineProgress| Some(pipeline.watermark? >= end.saturating_add(pipeline.lateness));
        // One that has not passed decides, whatever the others are.
        let passed: Vec<Option<bool>> = pipelines.map(has_passed).collect();
        if passed.contains(&Some(false)) {
            Some(false)
        } else {
            passed.into_iter().collect::<Option<Vec<_>>>().map(|_| true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{LATEST, MINUTE};

    fn progress(size: &str, lateness: &str, watermark: Option<i64>) -> MetricProgress {
        MetricProgress {
            metric: "m".to_owned(),
            size: Some(size.to_owned()),
            slide: None,
            gap: None,
            lateness: lateness.to_owned(),
            out_of_orderness: None,
            watermark,
            complete_since: None,
        }
    }

    #[test]
    fn a_window_is_final_once_every_pipeline_has_passed_it_and_no_correction_covers_it() {
        let of =
            |all: &[MetricProgress], corrections: Vec<Span>| MetricFinality::new(all, corrections).is_final(0, MINUTE);
        assert_eq!(of(&[], vec![]), None);
        assert_eq!(of(&[progress("1m", "10s", None)], vec![]), None);
        assert_eq!(of(&[progress("1m", "10s", Some(MINUTE))], vec![]), Some(false));
        let passed = progress("1m", "10s", Some(MINUTE * 7 / 6));
        assert_eq!(of(std::slice::from_ref(&passed), vec![]), Some(true));
        assert_eq!(of(&[passed.clone(), progress("1m", "0s", Some(0))], vec![]), Some(false));
        assert_eq!(of(&[passed.clone(), progress("1m", "0s", None)], vec![]), None);
        // Windows of another size have a progress of their own.
        assert_eq!(of(&[passed.clone(), progress("1h", "0s", Some(0))], vec![]), Some(true));
        let covering = Span { since: Some(MINUTE - 1), until: None };
        assert_eq!(of(std::slice::from_ref(&passed), vec![covering]), Some(false));
        assert_eq!(of(&[passed], vec![Span { since: Some(MINUTE), until: None }]), Some(true));
        assert_eq!(of(&[progress("1m", "10s", Some(LATEST))], vec![]), Some(true));
        assert_eq!(
            MetricFinality::new(&[progress("1m", "0s", Some(5)), progress("1m", "0s", Some(3))], vec![]).watermark(),
            Some(3)
        );
    }
}
