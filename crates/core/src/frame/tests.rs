use super::*;
use crate::error::{ErrorKind, Result};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault, Letter};
use crate::kind::letters::Builder;
use crate::test_cases::cases;
use arrow::array::RecordBatch;

fn letters(rows: i64) -> RecordBatch {
    let mut builder = Builder::new("evt-test", "host");
    let fault = Fault::new(ErrorType::ParseError, "byte 1: no JSON");
    for row in 0..rows {
        let origin = if row % 2 == 0 { "a.jsonl" } else { "b.jsonl" };
        let payload = format!("payload {row}");
        let letter = Letter {
            payload: payload.as_bytes(),
            key: None,
            headers: None,
            arrived_at: None,
            fault: &fault,
            origin,
            partition: "0",
            offset: row,
        };
        builder.push(&letter, 7).unwrap();
    }
    builder.finish().unwrap()
}

fn end(rows: u64) -> Control {
    Control::End(End { how: EndReason::Exhausted, rows, verdict: 0 })
}

fn stream(rows: u64) -> Vec<u8> {
    let (mut encoder, mut bytes) = Encoder::new(Kind::Dead.schema());
    let progress = Control::Progress(Progress { complete: true, ..Progress::default() });
    for piece in encoder.control(&progress).unwrap() {
        bytes.extend_from_slice(&piece);
    }
    for piece in encoder.batch(&letters(3)).unwrap() {
        bytes.extend_from_slice(&piece);
    }
    for piece in encoder.control(&Control::Watermark(-5)).unwrap() {
        bytes.extend_from_slice(&piece);
    }
    for piece in encoder.batch(&letters(2)).unwrap() {
        bytes.extend_from_slice(&piece);
    }
    for piece in encoder.control(&end(rows)).unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes.extend(encoder.finish());
    bytes
}

/// Decodes `bytes` in pieces of at most `step`.
fn decode(bytes: &[u8], step: usize) -> (Vec<Frame>, Result<Finish>) {
    let mut decoder = Decoder::default();
    let (mut frames, mut rest) = (vec![], bytes);
    while !rest.is_empty() {
        let space = decoder.space();
        let count = space.len().min(rest.len()).min(step);
        space[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        match decoder.filled(count) {
            Ok(frame) => frames.extend(frame),
            Err(error) => return (frames, Err(error)),
        }
    }
    (frames, decoder.finish())
}

#[test]
fn a_stream_reads_back_whatever_the_pieces() {
    for step in [1, 7, 64, usize::MAX] {
        let (frames, finish) = decode(&stream(5), step);
        assert_eq!(finish.unwrap(), Finish::Ended(End { how: EndReason::Exhausted, rows: 5, verdict: 0 }));
        let batches: Vec<_> =
            frames.iter().filter_map(|f| if let Frame::Batch(b) = f { Some(b) } else { None }).collect();
        assert_eq!(batches, [&letters(3), &letters(2)]);
        assert!(frames.iter().any(|frame| matches!(frame, Frame::Control(Control::Watermark(-5)))));
        assert!(matches!(frames.last(), Some(Frame::Eos)));
    }
}

#[test]
fn a_stream_cut_at_any_byte_is_torn_never_an_end_never_a_panic() {
    let whole = stream(5);
    for length in 0..whole.len() {
        let (frames, finish) = decode(&whole[..length], usize::MAX);
        let error = finish.expect_err(&format!("cut at {length}"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {length}: {error}");
        assert!(!frames.iter().any(|frame| matches!(frame, Frame::Eos)));
    }
}

#[test]
fn a_row_count_that_differs_from_the_stated_one_is_a_broken_invariant() {
    let (_, finish) = decode(&stream(4), usize::MAX);
    assert_eq!(finish.unwrap_err().kind(), ErrorKind::Broken);
}

#[test]
fn bytes_after_the_end_are_corrupt() {
    let mut bytes = stream(5);
    bytes.push(0);
    let (_, finish) = decode(&bytes, usize::MAX);
    assert!(finish.unwrap_err().to_string().contains("bytes after the end"));
}

#[test]
fn arrows_marker_alone_ends_a_stream_only_where_no_control_message_came() {
    for (controls, foreign) in [(0, true), (1, false)] {
        let (mut encoder, mut bytes) = Encoder::new(Kind::Dead.schema());
        let progress = Control::Progress(Progress::default());
        let pieces = (0..controls).flat_map(|_| encoder.control(&progress).unwrap()).collect::<Vec<_>>();
        let rows = encoder.batch(&letters(3)).unwrap();
        pieces.iter().chain(&rows).for_each(|piece| bytes.extend_from_slice(piece));
        bytes.extend(encoder.finish());
        match decode(&bytes, usize::MAX).1 {
            Ok(finish) => assert!(foreign && finish == Finish::Foreign),
            Err(error) => assert!(!foreign && error.to_string().contains("without evt.end"), "{error}"),
        }
    }
}

#[test]
fn progress_of_any_number_of_partitions_fits_and_only_its_last_part_is_complete() {
    for count in [0, 1, 1_000, 20_000] {
        let partitions = (0..count).map(|at| PartitionState {
            origin: "in.jsonl".into(),
            partition: format!("user \u{1}{at}"),
            stream_time: Some(at),
            state: State::Live,
            input: 0,
        });
        let partitions: Vec<_> = partitions.collect();
        let whole = Progress { partitions, complete: true, bytes_done: 7, bytes_total: Some(9) };
        let (mut encoder, mut bytes) = Encoder::new(Kind::Event.schema());
        for piece in encoder.control(&Control::Progress(whole.clone())).unwrap() {
            bytes.extend_from_slice(&piece);
        }
        let (frames, _) = decode(&bytes, usize::MAX);
        let parts: Vec<Progress> = frames
            .into_iter()
            .filter_map(|frame| match frame {
                Frame::Control(Control::Progress(part)) => Some(part),
                _ => None,
            })
            .collect();
        let announced: Vec<_> = parts.iter().flat_map(|part| part.partitions.clone()).collect();
        assert_eq!(announced, whole.partitions);
        let (last, before) = parts.split_last().unwrap();
        assert!(last.complete && before.iter().all(|part| !part.complete && part.bytes_done == 7));
        assert_eq!(before.len() > 10, count == 20_000);
    }
}

#[test]
fn a_flipped_byte_is_an_error_or_another_value_never_a_panic() {
    let whole = stream(5);
    let rows = |frames: &[Frame]| {
        let count = |frame: &Frame| if let Frame::Batch(batch) = frame { batch.num_rows() } else { 0 };
        frames.iter().map(count).sum::<usize>()
    };
    let expected = rows(&decode(&whole, usize::MAX).0);
    assert!(expected > 0);
    let (mut corrupt, mut read) = (0, 0);
    for at in 0..whole.len() {
        // With fewer cases than usual each byte has a part of the flips, in turn.
        for flip in [0x01u8, 0x80, 0xff].into_iter().cycle().skip(at % 3).take(cases(3).cases as usize) {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            let (frames, end) = decode(&bytes, usize::MAX);
            assert!(rows(&frames) <= expected, "byte {at} ^ {flip}: {} rows", rows(&frames));
            match end {
                Ok(_) => read += 1,
                Err(error) => {
                    // Another version is that of a newer evt, and another number of rows is a broken invariant.
                    let is_expected = match error.kind() {
                        ErrorKind::Corrupt | ErrorKind::Config => true,
                        kind => kind == ErrorKind::Broken && error.to_string().contains("evt.end states"),
                    };
                    assert!(is_expected, "byte {at} ^ {flip}: {error}");
                    corrupt += 1;
                }
            }
        }
    }
    assert!(corrupt > 0 && read > 0, "{corrupt} errors, {read} streams");
}

#[test]
fn dictionaries_are_sent_once_while_they_stay_the_same() {
    let (mut encoder, _) = Encoder::new(Kind::Dead.schema());
    let batch = letters(4);
    let first = encoder.batch(&batch).unwrap().len();
    let control = encoder.control(&Control::Watermark(1)).unwrap().len();
    let second = encoder.batch(&batch).unwrap().len();
    assert!(first > 2);
    assert_eq!((control, second), (2, 2));
}

#[test]
fn a_batch_that_claims_more_than_its_bytes_can_hold_is_refused_before_memory_is_reserved() {
    use arrow::array::RecordBatchOptions;
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
    let stream = |batch: &RecordBatch, compression| {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = StreamWriter::try_new_with_options(vec![], &batch.schema(), options).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    };
    let refusal = |bytes: &[u8]| decode(bytes, bytes.len()).1.unwrap_err();
    let mut packed = stream(&letters(40), Some(CompressionType::LZ4_FRAME));
    assert!(decode(&packed, 7).0.iter().any(|frame| matches!(frame, Frame::Batch(batch) if batch.num_rows() == 40)));
    let at = packed.windows(4).rposition(|bytes| bytes == [4, 0x22, 0x4d, 0x18]).unwrap();
    packed[at - 8..at].copy_from_slice(&(1i64 << 50).to_le_bytes());
    let error = refusal(&packed);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("decompresses to more than 1024 MiB"), "{error}");
    let rows = RecordBatchOptions::new().with_row_count(Some(1 << 50));
    let empty = std::sync::Arc::new(arrow::datatypes::Schema::empty());
    let error = refusal(&stream(&RecordBatch::try_new_with_options(empty, vec![], &rows).unwrap(), None));
    assert!(error.to_string().contains("states 1125899906842624 rows"), "{error}");
}

mod reading_back {
    use super::*;
    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryBuilder, Float64Array, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int32Type;
    use arrow_ipc::reader::StreamReader;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Rows of every type that evt encodes itself, and one that is left to arrow, from optional texts.
    fn rows(texts: &[Option<String>]) -> RecordBatch {
        let texts = || texts.iter().map(Option::as_deref);
        let length = |text: Option<&str>| text.map(str::len);
        let mut ids = FixedSizeBinaryBuilder::new(16);
        texts().for_each(|text| ids.append_value([length(text).unwrap_or(0) as u8; 16]).unwrap());
        let columns: [(&str, ArrayRef); 7] = [
            ("id", Arc::new(ids.finish())),
            ("text", Arc::new(texts().collect::<StringArray>())),
            ("bytes", Arc::new(texts().map(|text| text.map(str::as_bytes)).collect::<BinaryArray>())),
            ("instant", Arc::new(texts().map(|t| length(t).map(|n| n as i64)).collect::<TimestampMicrosecondArray>())),
            ("value", Arc::new(texts().map(|t| length(t).map(|n| n as f64)).collect::<Float64Array>())),
            (
                "word",
                Arc::new(texts().map(|t| t.map(|t| t.get(..1).unwrap_or(""))).collect::<DictionaryArray<Int32Type>>()),
            ),
            ("flag", Arc::new(texts().map(|t| length(t).map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn batches() -> impl Strategy<Value = Vec<RecordBatch>> {
        let text = proptest::option::weighted(0.8, "[a-c]{0,60}");
        let batch = (proptest::collection::vec(text, 1..80), 0.0..1.0f64, 0.0..1.0f64);
        (any::<bool>(), proptest::collection::vec(batch, 1..6)).prop_map(|(bare, batches)| {
            let cut = |(texts, start, share): (Vec<_>, f64, f64)| {
                let all = rows(&texts);
                let all = if bare { all.project(&[0, 1, 2, 3, 4, 5]).unwrap() } else { all };
                // Half of them whole, because slices take another path.
                let start = if start < 0.5 { 0 } else { (start * texts.len() as f64) as usize };
                let length =
                    if share < 0.5 { texts.len() - start } else { (share * (texts.len() - start) as f64) as usize };
                all.slice(start, length)
            };
            batches.into_iter().map(cut).collect()
        })
    }

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn rows_read_back_here_and_by_arrow_whatever_was_cut_off_them(batches in batches()) {
            let (mut encoder, mut bytes) = Encoder::new(batches[0].schema());
            for batch in &batches {
                let pieces = encoder.batch(batch).unwrap().into_iter();
                let pieces = pieces.chain(encoder.control(&Control::Watermark(7)).unwrap());
                pieces.for_each(|piece| bytes.extend_from_slice(&piece));
            }
            for piece in encoder.control(&end(encoder.rows())).unwrap() {
                bytes.extend_from_slice(&piece);
            }
            bytes.extend(encoder.finish());
            let rows: Vec<_> = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect();

            let theirs = StreamReader::try_new(&bytes[..], None).unwrap().map(Result::unwrap);
            let theirs: Vec<_> = theirs.filter(|batch| batch.num_rows() > 0).collect();
            prop_assert_eq!(&theirs, &rows);

            // Each batch is compared and dropped before the next, so that memory is used again.
            let mut decoder = Decoder::default();
            let (mut rest, mut expected) = (&bytes[..], rows.iter());
            while !rest.is_empty() {
                let space = decoder.space();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                if let Some(Frame::Batch(batch)) = decoder.filled(count).unwrap() {
                    prop_assert_eq!(Some(&batch), expected.next());
                }
            }
            prop_assert_eq!(expected.next(), None);
        }
    }
}

/// The messages of a stream that states this number of rows, once for each reader.
fn messages(rows: u64) -> Vec<Passed> {
    let progress = Progress { complete: true, ..Progress::default() };
    vec![
        Passed::Batch(letters(3)),
        Passed::Control(Control::Progress(progress)),
        Passed::Batch(letters(0)),
        Passed::Control(Control::Watermark(-5)),
        Passed::Batch(letters(2).slice(1, 1)),
        Passed::Control(end(rows)),
        Passed::Eos,
    ]
}

/// Decodes the first messages of a stream: their bytes, or the messages themselves.
fn decode_messages(rows: u64, count: usize, passes: bool) -> (Vec<String>, String) {
    let (mut encoder, schema) = Encoder::new(Kind::Dead.schema());
    let mut decoder = Decoder::default();
    let mut frames = vec![];
    let mut take = |frame: Result<Option<Frame>>| match frame {
        Ok(Some(Frame::Batch(batch))) => {
            assert!(Kind::Dead.leads(batch.schema_ref()));
            frames.push(format!("{:?}", batch.columns()));
        }
        Ok(Some(Frame::Schema(schema))) => frames.push(format!("{:?}", schema.fields())),
        Ok(frame) => frames.extend(frame.map(|frame| format!("{frame:?}"))),
        Err(error) => frames.push(format!("{:?}", error.kind())),
    };
    let decode = |decoder: &mut Decoder, mut bytes: &[u8], take: &mut dyn FnMut(Result<Option<Frame>>)| {
        while !bytes.is_empty() {
            let space = decoder.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            take(decoder.filled(count));
        }
    };
    decode(&mut decoder, &schema, &mut take);
    for message in messages(rows).into_iter().take(count) {
        assert!(decoder.is_between());
        match passes {
            true => take(decoder.pass(message)),
            false => {
                let pieces = encoder.passed(&message).unwrap();
                pieces.iter().for_each(|piece| decode(&mut decoder, piece, &mut take));
            }
        }
    }
    let finish = decoder.finish().map_err(|error| error.kind());
    (frames, format!("{finish:?}"))
}

#[test]
fn messages_that_are_passed_give_the_frames_of_their_bytes_wherever_the_stream_ends() {
    let (whole, finish) = decode_messages(4, usize::MAX, true);
    assert!(whole.len() == 7 && finish.starts_with("Ok(Ended"), "{whole:?} {finish}");
    // With the right number of rows and with a wrong one.
    for rows in [4, 5] {
        for count in 0..=7 {
            assert_eq!(decode_messages(rows, count, true), decode_messages(rows, count, false), "{rows} {count}");
        }
    }
}

#[test]
fn rows_that_are_passed_after_the_end_are_refused() {
    let mut decoder = Decoder::default();
    decoder.pass(Passed::Control(end(0))).unwrap();
    let error = decoder.pass(Passed::Batch(letters(1))).unwrap_err();
    assert!(error.to_string().ends_with("rows after the end of the stream"), "{error}");
}
