use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SEED: u64 = 7;

fn read(bytes: &[u8], seed: u64) -> Option<Entry> {
    super::read(&Bytes::copy_from_slice(bytes), seed)
}

fn fault() -> impl Strategy<Value = Fault> {
    (0..ErrorType::ALL.len(), ".{0,20}").prop_map(|(code, message)| Fault::new(ErrorType::ALL[code], message))
}

fn record() -> impl Strategy<Value = Record> {
    let outcome = prop_oneof![
        Just(RecordOutcome::New),
        Just(RecordOutcome::Duplicate),
        fault().prop_map(RecordOutcome::Rejected)
    ];
    (vec(any::<u8>(), 0..60), ".{0,8}", any::<Option<[u8; 16]>>(), outcome).prop_map(
        |(payload, source, event_id, outcome)| Record {
            payload: payload.into(),
            source: source.into(),
            event_id,
            outcome,
        },
    )
}

prop_compose! {
    /// Generates an entry.
    pub fn entry()(
        offset in 0..i64::MAX / 2,
        arrived_at in any::<i64>(),
        token in ".{0,6}",
        headers in vec((".{0,6}", ".{0,12}"), 0..4),
        key in proptest::option::of((".{0,6}", any::<u128>())),
        records in vec(record(), 0..6),
    ) -> Entry {
        let key = key.map(|(text, body)| IdempotencyKey { text, body });
        Entry { safe: 32, offset, request: Request { arrived_at, token, headers, key, records } }
    }
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![];
    encode(&mut bytes, SEED, entry);
    bytes
}

#[test]
fn a_fault_with_the_older_flag_is_read() {
    let fault = Fault::new(ErrorType::EnvelopeError, "id_reused");
    let records = vec![Record::rejected(Bytes::new(), fault)];
    let request = Request { arrived_at: 0, token: String::new(), headers: vec![], key: None, records };
    let entry = Entry { safe: 0, offset: 0, request };
    let mut bytes = encoded(&entry);
    // After three numbers, the lengths of the token, of the headers and of the records, and a byte for the missing key.
    let flags = HEAD + 24 + 4 + 1 + 4 + 4;
    assert_eq!(bytes[flags], 2 | HAS_FAULT);
    bytes[flags] = 2 | HAS_SPOOL_FAULT;
    seal(&mut bytes, SEED);
    assert_eq!(read(&bytes, SEED), Some(entry));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_entry_comes_back(entry in entry()) {
        let bytes = encoded(&entry);
        prop_assert_eq!(span(&bytes), EntrySpan::Entry(bytes.len()));
        prop_assert!(bytes.len() <= size_max(&entry.request), "{} bytes", bytes.len());
        let found = read(&bytes, SEED).expect("a whole entry");
        prop_assert_eq!(found.end(), entry.offset + entry.request.records.len() as i64);
        prop_assert_eq!(found, entry);
    }

    #[test]
    fn an_entry_cut_at_any_byte_is_none(entry in entry()) {
        let bytes = encoded(&entry);
        for end in 0..bytes.len() {
            prop_assert!(read(&bytes[..end], SEED).is_none(), "{end}");
            prop_assert!(end >= HEAD || span(&bytes[..end]) == EntrySpan::Short);
        }
    }

    #[test]
    fn an_entry_with_any_bit_changed_is_none(entry in entry(), place in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = encoded(&entry);
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes, SEED).is_none(), "{at}");
        prop_assert!(read(&encoded(&entry), SEED + 1).is_none(), "another segment's entry");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Some(entry) = body(&Bytes::copy_from_slice(&bytes)) {
            prop_assert!(entry.end() >= entry.offset);
        }
        let mut framed = MARK.to_vec();
        framed.extend_from_slice(&bytes);
        let _ = read(&framed, SEED);
    }
}
