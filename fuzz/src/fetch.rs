//! What a broker answers: what it understands, records of partitions, and the batches that they are in.

use evt_kafka::fetch::batch::{Aborted, Batch, next_offset};
use evt_kafka::fetch::unpack;
use evt_kafka::fetch::wire::{self, RequestedTopics};
use evt_run::input::topic_id::TopicId;

/// The topics of the seeds.
const TOPICS: [&str; 4] = ["seed-none", "seed-gzip", "seed-snappy", "seed-lz4"];

/// Any bytes are an answer, and any bytes are the records of a partition.
pub fn run(input: &[u8]) {
    let _ = wire::supported(input);
    let topic = TopicId::parse("sVv-a5OcT9-0w_YkfEzn3g").map(|id| (id, 0));
    let names = TOPICS.map(str::to_owned);
    for topics in [RequestedTopics::ById(topic.into_iter().collect()), RequestedTopics::ByName(&names)] {
        if let Ok(all) = wire::fetched(input, &topics) {
            all.into_iter().for_each(|one| records(&input[one.range], one.aborted));
        }
    }
    records(input, Aborted::default());
}

/// Batches lie behind each other, offsets do not turn round, and where a batch ends does not depend on what is in it.
fn records(bytes: &[u8], mut aborted: Aborted) {
    let (mut rest, mut last, mut unpacked) = (bytes, None, vec![]);
    while let Ok(Some(batch)) = Batch::first(rest, false) {
        assert!(0 <= batch.base && batch.base <= batch.last);
        last = Some(batch.last);
        rest = &rest[batch.size..];
        let body = match batch.compression() {
            0 => batch.body,
            compression => match unpack::unpack(compression, batch.body, &mut unpacked) {
                Ok(()) => unpacked.as_slice(),
                Err(_) => continue,
            },
        };
        let _ = aborted.hides(&batch, body);
        let mut records = batch.records(body);
        while let Ok(Some(record)) = records.read() {
            let mut shown = 0;
            record.headers.each(&mut |name, value| shown += name.len() + value.map_or(0, <[u8]>::len));
            assert!(shown + record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len) <= body.len());
        }
    }
    if let Ok(next) = next_offset(bytes) {
        assert_eq!(next, last.map(|last: i64| last.saturating_add(1)));
    }
}
