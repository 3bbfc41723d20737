//! The saved state of an engine: its rules, the rows of all series, the values of all views, and what is active.

use super::engine::{AlertEngine, EngineOptions};
use super::rule::RuleDefinition;
use super::state::ActiveAlert;
use crate::error::{Error, Result};
use crate::op::snapshot;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Version of the snapshot. Version 1 has no groups that are gone; up to version 2 no alert keeps a silent group.
const VERSION: u8 = 3;

/// Returns the state as bytes.
pub fn save(engine: &AlertEngine) -> Vec<u8> {
    let mut out = snapshot::Writer::default();
    out.byte(VERSION);
    out.optional(engine.evaluated);
    out.number(engine.stepped);
    out.optional(engine.read_to);
    let rules: Vec<Value> = engine.rules().map(|rule| with_exact_numbers(rule.to_fields())).collect();
    out.text(&Value::Array(rules).to_string());
    out.count(engine.series.len());
    engine.series.iter().for_each(|series| series.save(&mut out));
    out.count(engine.views.len());
    engine.views.iter().for_each(|view| view.save(&engine.series[view.series], &mut out));
    for rule in &engine.rules {
        out.optional(rule.start);
        out.optional(rule.created);
        out.flag(rule.is_started);
        out.count(rule.active.len());
        for (key, active) in &rule.active {
            out.bytes(engine.series[engine.views[rule.view].series].key_bytes(*key));
            active.save(&mut out);
        }
    }
    out.finish()
}

/// Writes the numbers of a rule as text, which is read back to the same bits. The JSON parser rounds numbers with 17
/// digits another way, so the rule would differ from its definition.
fn with_exact_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, with_exact_numbers(value))).collect(),
        other => other,
    }
}

/// Restores a state that [`save`] returned.
///
/// Errors: exit status 65 if the bytes are none.
pub fn restore(options: EngineOptions, bytes: &[u8]) -> Result<AlertEngine> {
    let mut saved = snapshot::Reader::new(bytes);
    let version = saved.byte()?;
    if !(1..=VERSION).contains(&version) {
        return Err(Error::corrupt(format!("snapshot of alerts: expected version 1 to {VERSION}, found {version}")));
    }
    let mut engine = AlertEngine::new(options);
    engine.evaluated = saved.optional()?;
    engine.stepped = saved.number()?;
    engine.read_to = saved.optional()?;
    let rules: Vec<Map<String, Value>> = serde_json::from_str(&saved.text()?).map_err(|_| damaged("rules"))?;
    let rules: Result<Vec<RuleDefinition>> = rules.into_iter().map(|rule| RuleDefinition::parse(rule, None)).collect();
    engine.rebuild(rules.map_err(|_| damaged("rules"))?, HashMap::new())?;
    for _ in 0..saved.count()? {
        let identity = saved.text()?;
        let series = engine.series.iter_mut().find(|series| series.identity == identity);
        series.ok_or_else(|| damaged("a series"))?.load(&mut saved)?;
    }
    for _ in 0..saved.count()? {
        let (identity, window) = (saved.text()?, saved.number()?);
        let AlertEngine { series, views, .. } = &mut engine;
        let view = views.iter_mut().find(|view| view.window == window && series[view.series].identity == identity);
        let view = view.ok_or_else(|| damaged("a view"))?;
        let number = view.series;
        view.load(&mut series[number], &mut saved, version > 1)?;
    }
    let AlertEngine { series, views, rules, .. } = &mut engine;
    for rule in rules {
        (rule.start, rule.created, rule.is_started) = (saved.optional()?, saved.optional()?, saved.flag()?);
        let series = &mut series[views[rule.view].series];
        for _ in 0..saved.count()? {
            let key = series.key_of(saved.bytes()?)?;
            rule.active.insert(key, ActiveAlert::load(&mut saved)?);
            // The view holds every group that is active.
            series.release(key);
        }
    }
    saved.finish()?;
    Ok(engine)
}

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("snapshot of alerts: {what} cannot be restored"))
}
