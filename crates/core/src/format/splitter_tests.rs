use super::*;
use crate::format::test_data::{SplitRecord, split};
use crate::test_cases::cases;
use proptest::prelude::*;

fn splitters() -> impl Iterator<Item = (&'static str, MakeSplitter)> {
    ALL.iter().filter_map(|format| match format.input {
        InputForm::Text(splitter) => Some((format.name, splitter)),
        _ => None,
    })
}

/// Generates text of bytes that are significant to some splitter.
fn text() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 17] = [
        b"=",
        b"\n",
        b"\r\n",
        b"\r",
        b"\"",
        b"\"\"",
        b",",
        b"\t",
        b";",
        b" ",
        b"a",
        b"{\"a\":1}",
        b"\xef\xbb\xbf",
        b"\xff",
        b"[",
        b"\xc3\xa9",
        b"h - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5\n",
    ];
    let piece = (0..PIECES.len()).prop_map(|at| PIECES[at]);
    prop_oneof![
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(any::<u8>(), 0..100),
    ]
}

fn run(splitter: MakeSplitter, input: &[u8], cuts: &[usize]) -> Result<Vec<SplitRecord>, String> {
    split(splitter(&TextOptions::default()).as_mut(), input, cuts).map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn every_cut_of_the_input_into_chunks_gives_the_same_records(
        input in text(),
        mut cuts in prop::collection::vec(0usize..120, 0..12),
    ) {
        cuts.sort_unstable();
        for (name, splitter) in splitters() {
            let every: Vec<usize> = (0..input.len()).collect();
            let whole = run(splitter, &input, &[]);
            prop_assert_eq!(&run(splitter, &input, &cuts), &whole, "{}", name);
            prop_assert_eq!(&run(splitter, &input, &every), &whole, "{} byte by byte", name);
        }
    }

    #[test]
    fn text_that_is_given_is_json(input in text()) {
        for (name, splitter) in splitters().filter(|(name, _)| *name != "jsonl") {
            for (_, _, body) in run(splitter, &input, &[]).unwrap_or_default() {
                if let Ok(text) = body {
                    prop_assert!(crate::json::scan::is_json(&text), "{}: {}", name, text);
                }
            }
        }
    }
}

#[test]
fn no_two_formats_share_a_name_an_extension_or_a_magic() {
    for (at, format) in ALL.iter().enumerate() {
        for other in &ALL[..at] {
            assert_ne!(format.name, other.name);
            assert!(format.extensions.iter().all(|extension| !other.extensions.contains(extension)), "{}", format.name);
            assert!(format.magic.is_empty() || format.magic != other.magic);
        }
        let found = if format.is_written() { to_write(format.name) } else { to_read(format.name) };
        assert_eq!(found.unwrap().name, format.name);
    }
}

#[test]
fn a_file_name_and_its_first_bytes_tell_the_format() {
    assert_eq!(by_extension("a/b.JSONL.gz").unwrap().name, "jsonl");
    assert_eq!(by_extension("b.parquet").unwrap().name, "parquet");
    assert!(by_extension("access.log").is_none());
    assert_eq!(by_magic(b"PAR1....").unwrap().name, "parquet");
    assert_eq!(by_magic(&[0xff, 0xff, 0xff, 0xff, 0, 1]).unwrap().name, "frames");
    assert!(by_magic(b"{}").is_none());
    for (found, words) in [
        (to_read("xml"), "-f: unknown format 'xml'; expected one of jsonl csv tsv avro parquet clf"),
        (to_read("apache"), " frames; it is clf"),
        (to_read("table"), "-f table: output format only"),
        (to_write("x.csv"), " svg raw; --to x.csv names a file"),
        (to_write("clf"), "-o clf: input format only"),
    ] {
        let error = found.err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!(error.contains(" clf logfmt ") && error.contains(" svg ")), "{error}");
    }
}
