//! Tests of text inputs: what becomes of each line does not depend on where reads cut it.

use super::{OpenRecord, TextInput};
use crate::clock::Clock;
use crate::emit::{Item, RecordEmitter, RecordOptions};
use crate::input::bytes::{Bytes, ReadOutcome};
use crate::input::test_data::{Part, Script};
use crate::run::Run;
use crate::task_pool::TaskPool;
use crate::test_cases::cases;
use crate::thread::Threads;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use evt_core::error::{ErrorKind, Result};
use evt_core::format::csv::CSV;
use evt_core::format::jsonl::Lines;
use evt_core::format::{InputForm, TextOptions};
use evt_core::kind::{dead, event};
use evt_core::mapping::{BATCH_ROWS, Options, TimeFrom};
use proptest::collection::vec;
use proptest::prelude::*;
use std::rc::Rc;

/// `--max-record`.
const RECORD_MAX: usize = 64;

/// The outcome of a line.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// A row with these properties.
    Row(String),
    /// A dead letter of this type with this payload, and the length of the record if it was cut.
    Letter { error_type: &'static str, payload: Vec<u8>, length: Option<i64> },
}

/// The number of a line, from 1, and its outcome.
type Line = (i64, Outcome);

struct Rig {
    input: TextInput,
    emitter: RecordEmitter,
}

impl Rig {
    fn new(script: Script) -> Self {
        Self::with_threads(script, Threads::ONE, BATCH_ROWS)
    }

    /// Reads CSV.
    fn of_csv(script: Script) -> Self {
        let mut rig = Self::new(script);
        let InputForm::Text(splitter) = CSV.input else { panic!("CSV is text") };
        rig.input.splitter = splitter(&TextOptions::default());
        rig.input.rules.json = false;
        rig
    }

    fn with_threads(script: Script, threads: Threads, batch_max: usize) -> Self {
        let unwatched = Run::unwatched("evt-test", Clock::Fixed(0));
        let run = Rc::new(Run { record_max: RECORD_MAX, pool: TaskPool::new(threads), batch_max, ..unwatched });
        let mapping = Options { time: TimeFrom::Arrival, ..Options::default() };
        let mut emitter =
            RecordEmitter::new(run.clone(), RecordOptions { mapping, ..RecordOptions::default() }).unwrap();
        let bytes = Bytes::of("pipe".to_owned(), Box::new(script), run, true).unwrap();
        let partition = emitter.stamp_mut().unnamed("pipe");
        Self { input: TextInput::new(bytes, Box::<Lines>::default(), true, partition), emitter }
    }

    /// Reads to the end; returns the error that ended it, if one did.
    fn read(&mut self) -> Result<()> {
        loop {
            if self.input.read(&mut self.emitter)? == ReadOutcome::End {
                return self.input.close(&mut self.emitter);
            }
        }
    }

    /// Reads to the end. Returns the batches of rows and of letters in their order, the letters with their places.
    fn batches(&mut self) -> Vec<(RecordBatch, Option<Vec<u64>>)> {
        self.read().unwrap();
        self.emitter.flush().unwrap();
        let items = std::iter::from_fn(|| self.emitter.pop()).map(|sent| match sent.item {
            Item::Batch(batch) => (batch, None),
            Item::Dead(dead) => (dead.letters, Some(dead.after)),
            other => panic!("{other:?}"),
        });
        items.collect()
    }

    /// Returns the rows and letters of the lines, by line.
    fn lines(&mut self) -> Vec<Line> {
        self.emitter.end(true).unwrap();
        let mut lines = vec![];
        while let Some(sent) = self.emitter.pop() {
            match sent.item {
                Item::Batch(batch) => lines.extend(rows(&batch)),
                Item::Dead(dead) => lines.extend(letters(&dead.letters)),
                _ => {}
            }
        }
        lines.sort_by_key(|(line, _)| *line);
        lines
    }
}

fn rows(batch: &RecordBatch) -> Vec<Line> {
    let offsets = batch.column(event::column::OFFSET).as_primitive::<Int64Type>();
    let properties = batch.column(event::column::PROPERTIES).as_string::<i32>();
    (0..batch.num_rows()).map(|row| (offsets.value(row), Outcome::Row(properties.value(row).to_owned()))).collect()
}

fn letters(batch: &RecordBatch) -> Vec<Line> {
    let offsets = batch.column(dead::column::OFFSET).as_primitive::<Int64Type>();
    let payloads = batch.column(dead::column::ORIGINAL_PAYLOAD).as_binary::<i32>();
    let lengths = batch.column(dead::column::ORIGINAL_LENGTH).as_primitive::<Int64Type>();
    let types = batch.column(dead::column::ERROR_TYPE).as_dictionary::<Int32Type>();
    let types = types.downcast_dict::<arrow::array::StringArray>().unwrap();
    let letter = |row: usize| Outcome::Letter {
        error_type: dead::ErrorType::from_name(arrow::array::ArrayAccessor::value(&types, row)).unwrap().name(),
        payload: payloads.value(row).to_vec(),
        length: lengths.is_valid(row).then(|| lengths.value(row)),
    };
    (0..batch.num_rows()).map(|row| (offsets.value(row), letter(row))).collect()
}

/// Returns the expected outcomes of the lines of a whole text; blank lines have none.
fn model(text: &[u8]) -> Vec<Line> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let line_max = 3 * RECORD_MAX + (8 << 10);
    let outcome = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let letter = |error_type, payload: &[u8], length| {
            Some(Outcome::Letter { error_type, payload: payload.to_vec(), length })
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let cut = || letter("TooLargeError", &line[..RECORD_MAX], Some(line.len() as i64));
        match str::from_utf8(line) {
            _ if line.len() > line_max => cut(),
            Err(_) => letter("ParseError", line, None),
            Ok(_) if line.len() > RECORD_MAX => cut(),
            Ok(text) if serde_json::from_str::<serde_json::Value>(text).is_err() => letter("ParseError", line, None),
            Ok(text) => Some(Outcome::Row(text.to_owned())),
        }
    };
    (1..).zip(text.split(|byte| *byte == b'\n')).filter_map(|(line, text)| Some((line, outcome(text)?))).collect()
}

/// A line, without its end.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let sized = |length: usize| format!("{{\"n\":\"{}\"}}", "é".repeat(length / 2)).into_bytes();
    prop_oneof![
        6 => any::<u32>().prop_map(|n| format!("{{\"n\":{n},\"t\":\"é€𝄞\"}}").into_bytes()),
        2 => "[ \t]{0,3}".prop_map(String::into_bytes),
        1 => Just(b"{\"n\":\"\xc3\"}".to_vec()),
        1 => "[a-z{]{1,9}".prop_map(String::into_bytes),
        2 => (RECORD_MAX - 12..RECORD_MAX + 8).prop_map(sized),
        1 => (8000..9000_usize).prop_map(sized),
        1 => (20_000..60_000_usize).prop_map(sized),
        1 => (8000..60_000_usize).prop_map(|length| vec![0xff; length]),
    ]
}

/// A text whose lines end with LF or CRLF, the last one perhaps without an end.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let lines = vec((line(), prop_oneof![2 => Just("\n"), 1 => Just("\r\n")]), 0..20);
    (any::<bool>(), lines, proptest::option::of(line())).prop_map(|(has_mark, lines, last)| {
        let mut text = if has_mark { "\u{feff}".as_bytes().to_vec() } else { vec![] };
        lines.iter().for_each(|(line, end)| text.extend([line, end.as_bytes()].concat()));
        text.extend(last.unwrap_or_default());
        text
    })
}

proptest! {
    #![proptest_config(cases(150))]
    #[test]
    fn lines_are_those_of_the_whole_text_wherever_reads_cut_it(
        text in text(),
        pieces in vec(prop_oneof![1..9_usize, 1..20_000_usize], 1..6),
    ) {
        let mut rig = Rig::new(Script::pieces(&text, &pieces));
        rig.read().unwrap();
        prop_assert_eq!(rig.lines(), model(&text));
    }
}

proptest! {
    #![proptest_config(cases(25))]
    #[test]
    fn batches_and_their_order_are_the_same_for_every_number_of_threads_and_wherever_reads_cut(
        texts in vec(text(), 1..4),
        pieces in vec(vec(prop_oneof![20..40_usize, 1..20_000_usize], 1..6), 5),
        batch_max in 1..9_usize,
    ) {
        let text = texts.concat();
        let batches = |threads, pieces: &[usize]| {
            let mut rig = Rig::with_threads(Script::pieces(&text, pieces), Threads::new(Some(threads)), batch_max);
            let batches = rig.batches();
            (batches, rig.emitter.counts(), rig.emitter.stamp().complete())
        };
        let expected = batches(1, &pieces[0]);
        for (threads, pieces) in [1, 2, 3, 8].into_iter().zip(&pieces[1..]) {
            prop_assert_eq!(&batches(threads, pieces), &expected, "{} threads", threads);
        }
    }
}

#[test]
fn a_line_may_be_cut_at_every_byte() {
    let text = "\u{feff}{\"n\":\"é\"}\r\n\n{\"n\":\r\n{\"𝄞\":1}\r\n{\"n\":2}".as_bytes();
    let expected = model(text);
    assert_eq!(expected.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3, 4, 5]);
    for cut in 1..text.len() {
        let mut rig = Rig::new(Script::pieces(text, &[cut, text.len()]));
        rig.read().unwrap();
        assert_eq!(rig.lines(), expected, "cut after {cut} bytes");
    }
}

#[test]
fn the_length_of_a_line_beyond_the_limit_is_the_same_however_it_arrives() {
    for (content, end) in [(20_000, "\n"), (20_000, "\r\n"), (20_000, ""), (20_000, "\r")] {
        let text = format!("{{\"n\":\"{}\"}}{end}", "a".repeat(content));
        for pieces in [vec![text.len()], vec![9000], vec![text.trim_end().len() + 1, 1], vec![1000]] {
            let mut rig = Rig::new(Script::pieces(text.as_bytes(), &pieces));
            rig.read().unwrap();
            assert_eq!(rig.lines(), model(text.as_bytes()), "{end:?}, pieces of {pieces:?}");
        }
    }
}

/// A quote without an end makes one record of many lines. What is beyond the limit for a line is read line by line.
#[test]
fn a_record_of_csv_beyond_the_limit_is_read_on_at_its_next_line_however_it_arrives() {
    for lines_in_quotes in [700, 900, 1_500, 3_000] {
        let quoted: String = (0..lines_in_quotes).map(|line| format!("abcde,{line}\n")).collect();
        let text = format!("a,b\n1,2\n\"{quoted}\",1\n3,4\n");
        let lines = |pieces: &[usize]| {
            let mut rig = Rig::of_csv(Script::pieces(text.as_bytes(), pieces));
            rig.read().unwrap();
            rig.lines()
        };
        let whole = lines(&[text.len()]);
        let is_one = text.len() < 8_000;
        let record = &text.as_bytes()["a,b\n1,2\n".len()..text.len() - "\n3,4\n".len()];
        let (error_type, payload, length) = match is_one {
            true => ("TooLargeError", record[..RECORD_MAX].to_vec(), Some(record.len() as i64)),
            false => ("ParseError", b"\"abcde,0".to_vec(), None),
        };
        assert_eq!(whole[1], (3, Outcome::Letter { error_type, payload, length }));
        assert_eq!(whole.len(), if is_one { 3 } else { 2 + lines_in_quotes });
        for pieces in [&[1_000][..], &[8_192], &[100, 9_000], &[8_383, 1]] {
            assert_eq!(lines(pieces), whole, "{lines_in_quotes} lines, pieces of {pieces:?}");
        }
    }
}

#[test]
fn an_error_of_the_reader_comes_after_the_lines_before_it() {
    let parts = [Part::Bytes(b"{\"n\":1}\n{\"n\":2}\n{\"n\"".to_vec()), Part::Idle, Part::Fails];
    let mut rig = Rig::new(Script::new(parts));
    let error = rig.read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(rig.lines(), model(b"{\"n\":1}\n{\"n\":2}\n"), "the torn line is not a record");
    assert!(rig.input.has_rest());
}

#[test]
fn an_unfinished_last_line_is_read_or_left() {
    for (open_record, last, is_read) in [
        (OpenRecord::Read, "{\"n\":", true),
        (OpenRecord::Read, "{\"n\":2}", true),
        (OpenRecord::Leave, "{\"n\":", false),
        (OpenRecord::LeaveSilently, "{\"n\":", false),
        (OpenRecord::Drop, "{\"n\":", false),
        // JSON has an end of its own.
        (OpenRecord::Leave, "{\"n\":2}", true),
        (OpenRecord::Drop, "{\"n\":2}", true),
    ] {
        let text = format!("{{\"n\":1}}\n{last}");
        let mut rig = Rig::new(Script::pieces(text.as_bytes(), &[3]));
        rig.input.set_open_record(open_record);
        rig.read().unwrap();
        let expected = if is_read { model(text.as_bytes()) } else { model(b"{\"n\":1}\n") };
        assert_eq!(rig.lines(), expected, "{open_record:?} {last}");
        assert_eq!(rig.input.lines(), if is_read { 2 } else { 1 });
    }
}

#[test]
fn lines_that_an_earlier_run_has_read_are_passed_over_and_not_counted_again() {
    let long = "a".repeat(20_000);
    let text = format!("{{\"n\":1}}\n{long}\n\n{{\"n\":4}}\n{{\"n\":5}}\n");
    for passed in 0..=5 {
        for pieces in [vec![text.len()], vec![7]] {
            let mut rig = Rig::new(Script::pieces(text.as_bytes(), &pieces));
            rig.input = rig.input.passing_over(passed);
            rig.input.count_from(100);
            rig.read().unwrap();
            let expected = model(text.as_bytes()).into_iter().filter(|(line, _)| *line > passed);
            let expected: Vec<Line> = expected.map(|(line, outcome)| (100 + line - passed, outcome)).collect();
            assert_eq!(rig.lines(), expected, "{passed} passed over, pieces of {pieces:?}");
            assert_eq!((rig.input.lines(), rig.input.line_reached()), (105 - passed, 5));
        }
    }
}

#[test]
fn a_json_array_is_no_text_of_lines_if_it_is_to_be_refused() {
    for length in 1..7 {
        let mut rig = Rig::new(Script::pieces(b" \n\n [1]", &[length]));
        rig.input = rig.input.rejecting_array(true);
        let error = rig.read().unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("--explode ."), "{error}");
    }
}
