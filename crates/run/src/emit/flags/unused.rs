//! Mapping flags have no effect on rows that have stamps already; the user who gave them must learn that.

use crate::console::Console;
use evt_core::mapping::{self, TimeFrom};

/// The mapping flags of a run that no row with stamps obeys.
pub struct UnusedFlags {
    /// For columnar rows: frames, Arrow, Parquet, stores.
    of_rows: Vec<&'static str>,
    /// For text whose fields are the columns of an event: its fields are mapped, but its event time stays.
    of_text: Vec<&'static str>,
}

impl UnusedFlags {
    pub fn new(options: &mapping::Options) -> Self {
        if options.is_compared {
            return Self { of_rows: vec![], of_text: vec![] };
        }
        let has_time = matches!(options.time, TimeFrom::Field(_) | TimeFrom::Expr(_) | TimeFrom::Arrival);
        let flags = [
            ("--time", has_time),
            ("--field", !options.fields.is_empty()),
            ("--set", !options.sets.is_empty()),
            ("--min-time", options.min_time.is_some()),
            ("--require", !options.require.is_empty()),
            ("--plain", options.plain),
            ("--hash-ids", options.hash_ids),
            ("--partitions", options.partitions.is_some()),
        ];
        let of_rows = flags.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect();
        Self { of_rows, of_text: if has_time { vec!["--time"] } else { vec![] } }
    }

    /// Warns once of the flags that have no effect on columnar rows of an input.
    pub fn warn_of_rows(&mut self, name: &str, console: &Console) {
        if let Some(message) = message(&std::mem::take(&mut self.of_rows)) {
            console.warn(format!("{name}: {message}"));
        }
    }

    /// The same for text.
    pub fn warn_of_text(&mut self, console: &Console) {
        message(&std::mem::take(&mut self.of_text)).into_iter().for_each(|message| console.warn(message));
    }
}

fn message(flags: &[&str]) -> Option<String> {
    let (last, before) = flags.split_last()?;
    Some(match before {
        [] => format!("{last} has no effect on rows that evt has stamped; use it where the raw records are read"),
        _ => format!(
            "{} and {last} have no effect on rows that evt has stamped; use them where the raw records are read",
            before.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_rows_with_stamps_do_not_obey_are_named_unless_another_input_does() {
        let options = mapping::Options {
            time: TimeFrom::Field("t".to_owned()),
            require: vec!["a".to_owned()],
            hash_ids: true,
            ..mapping::Options::default()
        };
        let UnusedFlags { of_rows, of_text } = UnusedFlags::new(&options);
        assert_eq!((&of_rows[..], &of_text[..]), (&["--time", "--require", "--hash-ids"][..], &["--time"][..]));
        let line = message(&of_rows).expect("a line");
        assert!(line.starts_with("--time, --require and --hash-ids have no effect"), "{line}");
        assert!(message(&of_text).is_some_and(|line| line.starts_with("--time has no effect")));
        let compared = UnusedFlags::new(&mapping::Options { is_compared: true, ..options });
        assert!(compared.of_rows.is_empty() && compared.of_text.is_empty());
        assert_eq!(message(&UnusedFlags::new(&mapping::Options::default()).of_rows), None);
    }
}
