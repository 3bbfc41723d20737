use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SEED: u64 = 7;

fn fault() -> impl Strategy<Value = Fault> {
    (0..TYPES.len(), ".{0,20}").prop_map(|(code, message)| Fault::new(TYPES[code], message))
}

fn record() -> impl Strategy<Value = (Record, RecordFate)> {
    let fate = prop_oneof![Just(RecordFate::New), Just(RecordFate::Duplicate), fault().prop_map(RecordFate::Rejected)];
    (vec(any::<u8>(), 0..60), ".{0,8}", any::<Option<[u8; 16]>>(), proptest::option::of(fault()), fate)
        .prop_map(|(payload, source, event_id, fault, fate)| (Record { payload, source, event_id, fault }, fate))
}

prop_compose! {
    /// Generates a request and the fates of its records.
    pub fn request()(
        arrived_at in any::<i64>(),
        token in ".{0,6}",
        headers in vec((".{0,6}", ".{0,12}"), 0..4),
        once in proptest::option::of((".{0,6}", any::<u128>())),
        both in vec(record(), 0..6),
    ) -> (Request, Vec<RecordFate>) {
        let (records, fates) = both.into_iter().unzip();
        (Request { arrived_at, token, headers, once, records }, fates)
    }
}

fn encoded(request: &Request, fates: &[RecordFate], offset: i64) -> Vec<u8> {
    let mut bytes = vec![];
    encode(&mut bytes, Spot { seed: SEED, safe: 32, offset }, request, fates);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_and_its_fates_come_back((request, fates) in request(), offset in 0..i64::MAX / 2) {
        let bytes = encoded(&request, &fates, offset);
        prop_assert_eq!(span(&bytes), EntrySpan::Entry(bytes.len()));
        prop_assert!(bytes.len() <= size_max(&request), "{} bytes", bytes.len());
        let entry = read(&bytes, SEED).expect("a whole entry");
        prop_assert_eq!((entry.safe, entry.offset, entry.end()), (32, offset, offset + fates.len() as i64));
        prop_assert_eq!(entry.request(), request);
        prop_assert_eq!(entry.kept(), Kept { offset, fates });
    }

    #[test]
    fn an_entry_cut_at_any_byte_is_none((request, fates) in request()) {
        let bytes = encoded(&request, &fates, 5);
        for end in 0..bytes.len() {
            prop_assert!(read(&bytes[..end], SEED).is_none(), "{end}");
            prop_assert!(end >= HEAD || span(&bytes[..end]) == EntrySpan::Short);
        }
    }

    #[test]
    fn an_entry_with_any_bit_changed_is_none((request, fates) in request(), place in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = encoded(&request, &fates, 5);
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes, SEED).is_none(), "{at}");
        prop_assert!(read(&encoded(&request, &fates, 5), SEED + 1).is_none(), "another segment's entry");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Some(entry) = body(&bytes) {
            let (request, kept) = (entry.request(), entry.kept());
            prop_assert_eq!(request.records.len(), kept.fates.len());
        }
        let mut framed = MARK.to_vec();
        framed.extend_from_slice(&bytes);
        let _ = read(&framed, SEED);
    }
}
