//! Tests of the bytes of an input: every way in which they arrive gives the same content.

use super::bytes::{Bytes, ReadOutcome};
use super::test_data::{Part, Script};
use crate::clock::{Clock, SimulatedClock};
use crate::run::Run;
use crate::run::io::Pipe;
use crate::test_cases::cases;
use crate::test_gzip::gzip;
use evt_core::error::{ErrorKind, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use signal_hook::consts::SIGTERM;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

fn run() -> Rc<Run> {
    Rc::new(Run::unwatched("evt-test", Clock::Fixed(0)))
}

fn bytes(script: Script) -> Bytes {
    Bytes::of("pipe".to_owned(), Box::new(script), run(), true).unwrap()
}

/// Reads to the end through buffers of these lengths.
fn read_all(bytes: &mut Bytes, buffers: &[usize]) -> Result<Vec<u8>> {
    let mut read = vec![];
    for length in buffers.iter().cycle() {
        let mut buffer = vec![0; *length];
        match bytes.read(&mut buffer, Some(Duration::ZERO))? {
            ReadOutcome::Bytes(count) => read.extend(&buffer[..count]),
            ReadOutcome::Idle => {}
            other => {
                assert_eq!(other, ReadOutcome::End);
                break;
            }
        }
    }
    Ok(read)
}

/// Reads until the input is idle.
fn read_now(bytes: &mut Bytes) -> Vec<u8> {
    let (mut read, mut buffer) = (vec![], [0; 100]);
    while let ReadOutcome::Bytes(count) = bytes.read(&mut buffer, Some(Duration::ZERO)).unwrap() {
        read.extend(&buffer[..count]);
    }
    read
}

/// Looks at the start of an input, which it may read in several steps.
fn look(bytes: &mut Bytes, read: impl Fn(&mut Bytes, Option<Duration>) -> Result<ReadOutcome>) {
    while read(bytes, Some(Duration::ZERO)).unwrap() == ReadOutcome::Idle {}
}

#[derive(Clone, Copy, Debug)]
enum Packing {
    No,
    Gzip,
    TwoGzips,
    Zstd,
}

fn pack(content: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::No => content.to_vec(),
        Packing::Gzip => gzip(content),
        Packing::TwoGzips => {
            let (first, second) = content.split_at(content.len() / 2);
            [gzip(first), gzip(second)].concat()
        }
        Packing::Zstd => zstd::encode_all(content, 1).unwrap(),
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn the_content_does_not_depend_on_how_it_arrives_and_how_it_is_read(
        content in vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..3000),
        packing in prop_oneof![Just(Packing::No), Just(Packing::Gzip), Just(Packing::TwoGzips), Just(Packing::Zstd)],
        pieces in vec(1..700_usize, 1..5),
        buffers in vec(1..700_usize, 1..5),
        looks in 0..3,
    ) {
        // Text without a magic number: bytes that look compressed are unpacked.
        let content = [b"text", content.as_slice()].concat();
        let mut bytes = bytes(Script::pieces(&pack(&content, packing), &pieces));
        if looks >= 1 {
            look(&mut bytes, Bytes::read_head);
            prop_assert!(content.starts_with(bytes.head()));
        }
        if looks == 2 {
            look(&mut bytes, Bytes::read_start);
            prop_assert!(content.starts_with(bytes.head()));
        }
        prop_assert_eq!(read_all(&mut bytes, &buffers).unwrap(), content);
    }

    #[test]
    fn text_in_another_encoding_may_be_cut_inside_a_character(
        content in "[a-zé€𝄞\n]{0,400}",
        pieces in vec(1..9_usize, 1..5),
        buffers in vec(8..90_usize, 1..5),
    ) {
        let encoded: Vec<u8> = content.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut bytes = bytes(Script::pieces(&encoded, &pieces)).in_encoding(Some(encoding_rs::UTF_16LE));
        let read = read_all(&mut bytes, &buffers).unwrap();
        prop_assert_eq!(String::from_utf8(read).unwrap(), content);
    }
}

#[test]
fn an_error_in_the_middle_comes_after_the_bytes_before_it_and_names_the_input() {
    let mut bytes = bytes(Script::new([Part::Bytes(b"before".to_vec()), Part::Idle, Part::Fails]));
    let mut buffer = [0; 100];
    assert_eq!(read_now(&mut bytes), b"before");
    let error = bytes.read(&mut buffer, Some(Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("pipe") && error.to_string().contains("the line is cut"), "{error}");
    assert_eq!(bytes.progress().done, 6);
}

#[test]
fn compressed_data_that_breaks_off_is_an_error_at_every_byte() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let packed = pack(b"some text that is compressed", packing);
        // Fewer bytes than a magic number are text.
        for end in 4..packed.len() {
            let mut bytes = bytes(Script::pieces(&packed[..end], &[5]));
            let error = read_all(&mut bytes, &[64]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{packing:?}, {end} bytes: {error}");
        }
    }
    let packed = gzip(b"some text that is compressed");
    let damaged = [&packed[..packed.len() - 6], &[0xff; 6][..]].concat();
    let error = read_all(&mut bytes(Script::pieces(&damaged, &[7])), &[64]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "the checksum is wrong: {error}");
}

#[test]
fn a_signal_stops_the_reading_of_an_input_that_heeds_it() {
    for stops in [true, false] {
        let run = run();
        let script = Script::pieces(b"some text", &[5]);
        let mut bytes = Bytes::of("pipe".to_owned(), Box::new(script), run.clone(), stops).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(read_now(&mut bytes), b"some ");
        run.stop.raise(15);
        let next = bytes.read(&mut buffer, None).unwrap();
        assert_eq!(next, if stops { ReadOutcome::Stopped } else { ReadOutcome::Bytes(4) });
    }
}

#[test]
fn a_pipe_is_copied_to_a_whole_file_with_the_bytes_that_were_looked_at() {
    let content: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut bytes = bytes(Script::pieces(&content, &[4096, 1]));
    look(&mut bytes, Bytes::read_head);
    let mut copy = vec![];
    std::io::Read::read_to_end(&mut bytes.whole_file().unwrap(), &mut copy).unwrap();
    assert!(copy == content, "{} bytes, expected {}", copy.len(), content.len());
}

/// A stage stops at the signal, too, and sends the rest of its stream; another writer may never send anything.
#[test]
fn a_signal_ends_the_reading_of_a_pipe_that_does_not_begin_in_time() {
    for (sent, after, wanted) in [
        (&b""[..], 1_999, ReadOutcome::Idle),
        (b"", 2_000, ReadOutcome::Stopped),
        (b"{}\n", 2_000, ReadOutcome::Stopped),
        (b"\xff\xff\xff\xff....", 60_000, ReadOutcome::Idle),
    ] {
        let (clock, mut pipe) = (SimulatedClock::default(), Pipe::default());
        let run = Rc::new(Run::unwatched("evt-test", Clock::Simulated(clock.clone())));
        let mut bytes = Bytes::of("-".to_owned(), Box::new(pipe.clone()), run.clone(), false).unwrap();
        pipe.write_all(sent).unwrap();
        assert_eq!(read_now(&mut bytes), sent);
        run.stop.raise(SIGTERM);
        let mut read = || bytes.read(&mut [0; 9], Some(Duration::ZERO)).unwrap();
        assert_eq!(read(), ReadOutcome::Idle);
        clock.advance(Duration::from_millis(after));
        assert_eq!(read(), wanted, "{sent:?} {after}");
        if wanted == ReadOutcome::Idle {
            pipe.write_all(b"12345678").unwrap();
            clock.advance(Duration::from_millis(1));
            assert!(matches!(read(), ReadOutcome::Bytes(_)));
        }
    }
}
