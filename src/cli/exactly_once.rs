//! `exactly_once=true` of a topic: whether a stage can commit its records and the offsets of its input in one
//! transaction.

use super::args::CheckpointArgs;
use super::resolve::Resolved;
use crate::output::{NO_TRANSACTIONS, OutputPlan};
use crate::source::SourceOptions;
use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_kafka::address::{Address, TopicFormat};
use evt_kafka::group::CommitMode;
use evt_kafka::range::ReadMode;

/// Lets all records be in the transactions of the input, if one output has `exactly_once=true`.
///
/// Errors: exit status 2 if the stage has state, if its input is not read by a group whose members share the
/// partitions, or if an output is not a topic of the same brokers.
pub fn in_transactions(
    resolved: Resolved,
    options: &SourceOptions,
    checkpoint: Option<&CheckpointArgs>,
) -> Result<Resolved> {
    let Resolved { inputs, plans, dlq, side, .. } = &resolved;
    let outputs = || plans.iter().chain(dlq).chain(side);
    let Some(chosen) = outputs().find(|output| output.is_exactly_once()) else { return Ok(resolved) };
    let wrong = |why: String| Error::usage(format!("{}: exactly_once=true: {why}", chosen.name));
    stateless(options, checkpoint).map_err(|why| wrong(why.to_owned()))?;
    let input = group(inputs).map_err(wrong)?;
    let settings = chosen.topic().map_or(&[][..], |address| &address.options.settings);
    outputs().try_for_each(|output| fits(output, input, settings).map_err(wrong))?;
    Ok(Resolved {
        plans: resolved.plans.into_iter().map(OutputPlan::in_transactions).collect(),
        dlq: resolved.dlq.map(OutputPlan::in_transactions),
        ..resolved
    })
}

/// Returns the addresses of the outputs whose records are in the transactions of the input, and the address of the
/// input. The first output is the one whose settings the producer uses. `None` without transactions.
pub fn addresses(resolved: &Resolved) -> Option<(Vec<&Address>, &Address)> {
    let [Uri::Kafka(input)] = resolved.inputs.as_slice() else { return None };
    let mut outputs: Vec<_> = resolved.plans.iter().chain(&resolved.dlq).filter_map(OutputPlan::topic).collect();
    outputs.sort_by_key(|address| !address.exactly_once);
    outputs.first().is_some_and(|first| first.exactly_once).then_some((outputs, input))
}

/// Checks that a stage has no state or positions outside of the transactions.
fn stateless(options: &SourceOptions, checkpoint: Option<&CheckpointArgs>) -> Result<(), &'static str> {
    match options.inputs.topics.read_mode {
        _ if checkpoint.and_then(CheckpointArgs::options).is_some() => {
            Err("--checkpoint cannot be used with it: the epochs of a checkpoint write each row once already")
        }
        // evt-alert commits offsets with its own state.
        _ if !matches!(options.inputs.topics.commit_mode, CommitMode::None) => Err(NO_TRANSACTIONS),
        ReadMode::Commit | ReadMode::Checkpoint => Ok(()),
        ReadMode::Stateful if options.needs.finds_repeats => Err(
            "expected a stage without state, found --dedup; remove it, or begin the pipe with evt-ingest --checkpoint",
        ),
        ReadMode::Stateful if checkpoint.is_some() => {
            Err("expected a stage without state, found windows; use evt-window --checkpoint")
        }
        ReadMode::Stateful | ReadMode::Bounded | ReadMode::Tail => Err(NO_TRANSACTIONS),
    }
}

/// Returns the address of the input. Errors: why it is not read by a group whose members share the partitions.
fn group(inputs: &[Uri]) -> Result<&Address, String> {
    let address = match inputs {
        [Uri::Kafka(address)] => address,
        [other] => return Err(format!("expected topics as the input, found {other}")),
        several => return Err(format!("expected one input, found {}", several.len())),
    };
    let options = &address.options;
    let own = match options {
        _ if options.group.is_none() => return Err(format!("{address}: expected group=NAME, found none")),
        _ if options.end.is_some() => "end=",
        _ if options.partitions.is_some() => "partitions=",
        _ if options.form == Some(TopicFormat::Frames) => "format=frames",
        _ => return Ok(address),
    };
    Err(format!("{address}: expected an input whose partitions the group assigns, found {own}"))
}

/// Checks that the producer of all outputs, which has `settings`, can write to an output. Errors: why it cannot.
fn fits(output: &OutputPlan, input: &Address, settings: &[(String, String)]) -> Result<(), String> {
    let name = &output.name;
    let Some(Address { brokers, options, .. }) = output.topic() else {
        return match output.is_null() {
            true => Ok(()),
            false => Err(format!("expected every output and --dlq to be a topic of {}, found {name}", shown(input))),
        };
    };
    if *brokers != input.brokers {
        return Err(format!(
            "expected the brokers of the input, {}, for every output and --dlq, found {name}",
            shown(input)
        ));
    }
    if options.form == Some(TopicFormat::Frames) {
        return Err(format!("{name}: expected format=json or format=avro, found format=frames"));
    }
    if !options.settings.is_empty() && options.settings != settings {
        return Err(format!(
            "{name}: expected rdkafka.NAME= only in this URI, because one producer writes all records"
        ));
    }
    Ok(())
}

/// Returns the brokers of an address, without secrets.
fn shown(address: &Address) -> String {
    let name = address.to_string();
    name.rsplit_once('/').map_or(name.clone(), |(brokers, _)| brokers.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    #[test]
    fn transactions_need_one_input_whose_partitions_the_group_assigns() {
        let uris = |texts: &[&str]| {
            texts.iter().map(|text| Uri::parse(text, &Default::default()).unwrap()).collect::<Vec<_>>()
        };
        assert!(group(&uris(&["kafka://b/t?group=g"])).is_ok());
        for (inputs, found) in [
            (&["in.jsonl"][..], "found in.jsonl"),
            (&["kafka://b/t?group=g", "kafka://b/u?group=g"], "expected one input, found 2"),
            (&["kafka://b/t"], "expected group=NAME, found none"),
            (&["kafka://b/t?group=g&end=latest"], "found end="),
            (&["kafka://b/t?group=g&partitions=0"], "found partitions="),
            (&["kafka://b/t?group=g&format=frames"], "found format=frames"),
        ] {
            let why = group(&uris(inputs)).expect_err("no transactions");
            assert!(why.ends_with(found), "{why}");
        }
    }

    #[test]
    fn only_a_stage_without_state_can_be_in_transactions() {
        let with = |read_mode: ReadMode, finds_repeats: bool, checkpoint: Option<&CheckpointArgs>| {
            let mut options = SourceOptions::default();
            options.inputs.topics.read_mode = read_mode;
            options.needs.finds_repeats = finds_repeats;
            stateless(&options, checkpoint)
        };
        let parse = |args: &[&str]| {
            let command = CheckpointArgs::augment_args(clap::Command::new("evt"));
            let matches = command.no_binary_name(true).try_get_matches_from(args).unwrap();
            CheckpointArgs::from_arg_matches(&matches).unwrap()
        };
        let (unused, used) = (parse(&[]), parse(&["--checkpoint", "state"]));
        assert!(with(ReadMode::Commit, false, Some(&unused)).is_ok());
        for (read_mode, finds_repeats, checkpoint, remedy) in [
            (ReadMode::Commit, false, Some(&used), "--checkpoint"),
            (ReadMode::Stateful, true, None, "--dedup"),
            (ReadMode::Stateful, false, Some(&unused), "evt-window --checkpoint"),
            // evt-alert without --state.
            (ReadMode::Stateful, false, None, "evt-sink"),
            (ReadMode::Bounded, false, None, "evt-sink"),
            (ReadMode::Tail, false, None, "evt-sink"),
        ] {
            let why = with(read_mode, finds_repeats, checkpoint).expect_err("state");
            assert!(why.contains(remedy), "{why}");
        }
    }
}
