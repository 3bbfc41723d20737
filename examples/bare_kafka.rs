//! What a bare librdkafka does, for `scripts/bench kafka`: a loop around a producer with evt's settings.
//!
//!     bare_kafka make BROKERS TOPIC PARTITIONS
//!     bare_kafka send BROKERS TOPIC FILE      # a line is a message, the text after the first `"source":"` its key
#![forbid(unsafe_code)]

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", brokers, topic, partitions] => make(brokers, topic, partitions.parse()?),
        ["send", brokers, topic, file] => send(brokers, topic, &std::fs::read(file)?),
        _ => Err("bare_kafka make BROKERS TOPIC PARTITIONS | bare_kafka send BROKERS TOPIC FILE".into()),
    }
}

fn make(brokers: &str, topic: &str, partitions: i32) -> Result<(), Box<dyn Error>> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let made = runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))?;
    made.into_iter().try_for_each(|made| made.map(|_| ()).map_err(|(topic, code)| format!("{topic}: {code}").into()))
}

fn send(brokers: &str, topic: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let settings = [
        ("bootstrap.servers", brokers),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("delivery.report.only.error", "true"),
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "200000"),
        ("partitioner", "murmur2_random"),
    ];
    let mut config = ClientConfig::new();
    settings.iter().for_each(|(name, value)| {
        config.set(*name, *value);
    });
    let producer: BaseProducer = config.create()?;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).payload(line).key(key(line));
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    producer.poll(Duration::from_millis(50));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

fn key(line: &[u8]) -> &[u8] {
    const NAME: &[u8] = br#""source":""#;
    let start = memchr::memmem::find(line, NAME).map_or(line.len(), |at| at + NAME.len());
    let rest = line.get(start..).unwrap_or_default();
    &rest[..rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len())]
}
