//! What a broker answers: what it understands, records of partitions, and the batches that they are in.

use evt::kafka::fetch::batch::{Aborted, Batch, Found, next_offset};
use evt::kafka::fetch::{unpack, wire};
use evt::kind::headers::Headers as _;

/// Any bytes are an answer, and any bytes are the records of a partition.
pub fn run(input: &[u8]) {
    let _ = wire::understands(input);
    if let Ok(Ok(all)) = wire::fetched(input) {
        all.iter().for_each(|one| records(&input[one.records.clone()], &one.aborted));
    }
    records(input, &[]);
}

/// Batches lie behind each other, offsets do not turn round, and where a batch ends does not depend on what is in it.
fn records(bytes: &[u8], aborted: &[(i64, i64)]) {
    let (mut rest, mut last, mut unpacked) = (bytes, None, vec![]);
    let mut aborted = Aborted::new(aborted);
    while let Ok(Found::Batch(batch, length)) = Batch::first(rest, false) {
        assert!(0 <= batch.base && batch.base <= batch.last);
        last = Some(batch.last);
        rest = &rest[length..];
        let body = match batch.packing() {
            0 => batch.body,
            packing => match unpack::unpack(packing, batch.body, &mut unpacked) {
                Ok(true) => unpacked.as_slice(),
                _ => continue,
            },
        };
        let _ = aborted.hides(&batch, body);
        for record in batch.records(body).flatten() {
            let mut shown = 0;
            record.headers.each(&mut |name, value| shown += name.len() + value.map_or(0, <[u8]>::len));
            assert!(shown + record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len) <= body.len());
        }
    }
    if let Ok(next) = next_offset(bytes) {
        assert_eq!(next, last.map(|last: i64| last.saturating_add(1)));
    }
}
