//! Kafka URIs, `kafka://BROKERS/TOPIC[,TOPIC…]?OPTION=VALUE&…`, parsed without a broker.

use evt_core::error::{Error, Result};
use evt_core::parse::port;
use evt_core::parse::query::{self, unescaped};
use evt_core::time::parse_flag_instant;
use evt_run::client::outage::{FOREVER, OutageLimit};
use evt_run::input::topic_id::TopicId;
use evt_run::registry::reader::Choice;
use evt_run::secret::Secrets;
use std::fmt;

/// The format of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicFormat {
    /// A record is one JSON object: raw input, which gets new stamps.
    #[default]
    Json,
    /// A record is Avro after the id of its schema: raw input too.
    Avro,
    /// A record is a frame: rows with their stamps, or a control frame.
    Frames,
}

/// The beginning or the end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The first record.
    Earliest,
    /// After the last record at the beginning of the run.
    Latest,
    /// The first record with this timestamp or a later one; the text of an instant, or `now-2h`.
    Instant(String),
    /// These offsets, by partition.
    Offsets(Vec<(i32, i64)>),
    /// The positions that the tool itself has kept from earlier runs.
    Kept(KeptPositions),
}

impl Bound {
    /// Whether another run would find other offsets, even if no record is removed.
    pub fn changes(&self) -> bool {
        match self {
            Bound::Earliest | Bound::Offsets(_) => false,
            Bound::Latest | Bound::Instant(_) => true,
            Bound::Kept(kept) => kept.others.as_deref().is_some_and(Bound::changes),
        }
    }
}

/// The positions that a tool has kept of some topics of an address. Positions that the group has committed for these
/// topics are ignored. A partition of such a topic without a position is read from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPositions {
    /// The positions.
    pub positions: Vec<KeptPosition>,
    /// Where the reading of other topics begins, in partitions without a committed offset. `None`: at their first
    /// records, whatever the group has committed.
    pub others: Option<Box<Bound>>,
}

impl KeptPositions {
    /// Whether there is a position of a topic.
    pub fn has(&self, topic: usize) -> bool {
        self.positions.iter().any(|kept| kept.topic == topic)
    }

    /// Returns the position of a partition.
    pub fn of(&self, topic: usize, partition: i32) -> Option<&KeptPosition> {
        self.positions.iter().find(|kept| (kept.topic, kept.partition) == (topic, partition))
    }
}

/// The position of a partition that a tool has kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPosition {
    /// The index of its topic in the address.
    pub topic: usize,
    /// Its number.
    pub partition: i32,
    /// The next offset.
    pub next: i64,
    /// The stream time there (µs).
    pub stream_time: Option<i64>,
    /// The id of the topic that was read; `None` if it is not known.
    pub topic_id: Option<TopicId>,
}

/// The parsed options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The consumer group that stores offsets.
    pub group: Option<String>,
    /// The format of the topic, if set.
    pub form: Option<TopicFormat>,
    /// The registry of the schemas of a topic in Avro.
    pub schemas: Option<String>,
    /// The schema that rows are written with, instead of one that is registered.
    pub schema_id: Option<Choice>,
    /// The schema that records are read as, instead of their writer's.
    pub reader: Option<Choice>,
    /// The column of a record's key; `none` for no key.
    pub key: Option<String>,
    /// The bound at which reading begins in a partition without a committed offset.
    pub start: Option<Bound>,
    /// The bound at which reading ends. Without it only a bounded read ends.
    pub end: Option<Bound>,
    /// The partitions to read, if not all.
    pub partitions: Option<Vec<i32>>,
    /// Whether records lost to retention are skipped.
    pub skips_gaps: bool,
    /// How long brokers may be unreachable.
    pub wait: OutageLimit,
    /// Settings of librdkafka.
    pub settings: Vec<(String, String)>,
}

/// The names of all options, for the error message.
const NAMES: &str =
    "group format schemas schema_id reader key start end partitions on_gap wait exactly_once rdkafka.NAME";

/// Settings that users cannot change. They ensure that an offset is committed only when its rows are safe, and that
/// nothing is sent twice.
const OURS: [&str; 15] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    // Another name of message.timeout.ms.
    "delivery.timeout.ms",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "message.timeout.ms",
    // Another name of bootstrap.servers.
    "metadata.broker.list",
    "request.required.acks",
    "transactional.id",
];

/// Brokers, topics and options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `HOST:PORT`, comma-separated.
    pub brokers: String,
    /// The same with placeholders, as output shows it.
    pub shown: String,
    /// At least one.
    pub topics: Vec<String>,
    /// Whether the records of an output are in one transaction with the offsets of the input.
    pub exactly_once: bool,
    /// The options.
    pub options: Options,
}

impl Address {
    /// Parses the part of the URI after `kafka:`. Errors: exit status 2 for an unknown option or an invalid value.
    pub fn parse(rest: &str, secrets: &Secrets) -> Result<Self> {
        let wrong =
            |why: &str| Error::usage(format!("kafka:{rest}: {why}; expected kafka://HOST:PORT/TOPIC?NAME=VALUE"));
        let (path, pairs) = query::split_after("kafka", rest)?;
        if let Some((_, brokers)) = path.rsplit_once('@') {
            return Err(Error::usage(format!(
                "kafka://…@{brokers}: expected brokers, found user and password before them; set these in \
                 --kafka-config FILE"
            )));
        }
        let (brokers, topics) = path
            .strip_prefix("//")
            .and_then(|path| path.split_once('/'))
            .ok_or_else(|| wrong("brokers and topic are missing"))?;
        let topics: Vec<String> = topics.split(',').map(str::to_owned).collect();
        if brokers.is_empty() {
            return Err(wrong("brokers are missing"));
        }
        if let Some(topic) = topics.iter().find(|topic| !is_topic(topic)) {
            return Err(wrong(&format!("invalid topic name '{topic}'")));
        }
        if (1..topics.len()).any(|at| topics[..at].contains(&topics[at])) {
            return Err(wrong("duplicate topic"));
        }
        let (mut options, mut exactly_once) = (Options::default(), false);
        for (name, value) in pairs {
            // The registry's URI is parsed before its placeholders are replaced.
            let value = if name == "schemas" { value } else { secrets.reveal(&value) };
            match name.as_str() {
                "exactly_once" => {
                    let wrong = |_| Error::usage(format!("kafka: {name}={value}: expected true or false"));
                    exactly_once = value.parse().map_err(wrong)?;
                }
                _ => options.set(&name, &value)?,
            }
        }
        options.check_schemas()?;
        let (brokers, shown) = (secrets.reveal(brokers), secrets.named(brokers));
        if !brokers.split(',').all(port::is_valid) {
            return Err(wrong(port::WRONG));
        }
        Ok(Self { brokers, shown, topics, exactly_once, options })
    }

    /// Returns the topic of an output. Errors: exit status 2 if there are several.
    pub fn topic(&self) -> Result<&str> {
        match self.topics.as_slice() {
            [topic] => Ok(topic),
            _ => Err(Error::usage(format!("{self}: expected one topic for an output; use --to for each"))),
        }
    }
}

/// Formats the address without options, which may hold secrets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.shown, self.topics.join(","))
    }
}

impl Options {
    /// Makes waits for brokers and for the registry unlimited, unless they are set.
    pub fn set_without_limit(&mut self) {
        if self.wait == OutageLimit::Usual {
            self.wait = OutageLimit::Forever;
        }
        if let Some(schemas) = &mut self.schemas
            && !query::split(schemas).1.iter().any(|(name, _)| name == "retry")
        {
            schemas.push_str(&format!("{}retry={FOREVER}", query::separator(schemas)));
        }
    }

    /// Checks that Avro and a registry are set together. Errors: exit status 2.
    fn check_schemas(&self) -> Result<()> {
        let is_avro = self.form == Some(TopicFormat::Avro);
        if is_avro && self.schemas.is_none() {
            let why = "kafka: format=avro requires a registry: schemas=http://HOST:PORT/BASE";
            return Err(Error::usage(why));
        }
        if !is_avro && (self.schemas.is_some() || self.schema_id.is_some() || self.reader.is_some()) {
            return Err(Error::usage("kafka: schemas=, schema_id= and reader= require format=avro"));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |why: &str| Error::usage(format!("kafka: {name}={value}: {why}"));
        match name {
            _ if value.is_empty() => return Err(wrong("expected a value")),
            "group" => self.group = Some(value.to_owned()),
            "format" => self.form = Some(form(value).map_err(|why| wrong(&why))?),
            // The registry's own options follow a `?` of their own and are separated by `%26`.
            "schemas" => match unescaped(value) {
                Some(registry) => self.schemas = Some(registry),
                None => return Err(wrong("invalid % escapes")),
            },
            "schema_id" => self.schema_id = Some(Choice::parse(value)),
            "reader" => self.reader = Some(Choice::parse(value)),
            "key" => self.key = Some(value.to_owned()),
            "start" => self.start = Some(bound(value)?),
            "end" => match bound(value)? {
                Bound::Earliest | Bound::Kept(_) => return Err(wrong("expected latest, an instant or offsets")),
                end => self.end = Some(end),
            },
            "partitions" => self.partitions = Some(partitions(value).ok_or_else(|| wrong("expected 0,1,2"))?),
            "on_gap" => match value {
                "continue" => self.skips_gaps = true,
                "fail" => self.skips_gaps = false,
                _ => return Err(wrong("expected fail or continue")),
            },
            "wait" => self.wait = OutageLimit::parse(value)?,
            _ => match name.strip_prefix("rdkafka.") {
                Some(setting) => {
                    check_setting(setting)?;
                    self.settings.push((setting.to_owned(), value.to_owned()));
                }
                None => return Err(Error::usage(format!("kafka: unknown option '{name}'; expected one of {NAMES}"))),
            },
        }
        Ok(())
    }
}

/// Refuses a setting that users cannot change. Errors: exit status 2.
pub fn check_setting(name: &str) -> Result<()> {
    if name == "group.id" {
        return Err(Error::usage("kafka: set group.id with group=NAME"));
    }
    match OURS.contains(&name) {
        true => Err(Error::usage(format!("kafka: {name} cannot be changed: evt's delivery guarantees depend on it"))),
        false => Ok(()),
    }
}

/// Parses the `NAME=VALUE` lines of a `--kafka-config` file; empty lines and those that begin with `#` are skipped.
pub fn parse_settings(text: &str) -> Result<Vec<(String, String)>> {
    let mut settings = vec![];
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) =
            line.split_once('=').ok_or_else(|| Error::config("expected NAME=VALUE").at(number.to_string()))?;
        let name = name.trim();
        check_setting(name).map_err(|error| Error::config(error.to_string()).at(number.to_string()))?;
        settings.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(settings)
}

fn is_topic(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.chars().all(legal)
}

fn form(value: &str) -> Result<TopicFormat, String> {
    match value {
        "json" => Ok(TopicFormat::Json),
        "frames" => Ok(TopicFormat::Frames),
        "avro" => Ok(TopicFormat::Avro),
        _ => Err("expected one of json avro frames".to_owned()),
    }
}

fn bound(value: &str) -> Result<Bound> {
    match value {
        "earliest" => Ok(Bound::Earliest),
        "latest" => Ok(Bound::Latest),
        _ => match offsets(value) {
            Some(offsets) => Ok(Bound::Offsets(offsets)),
            None => {
                let advice = |_| {
                    Error::usage(format!(
                        "kafka: expected earliest, latest, an instant (2024-01-15T10:00:00Z, now-2h) or \
                         PARTITION:OFFSET[,…], found '{value}'"
                    ))
                };
                parse_flag_instant(value, 0, None).map_err(advice)?;
                Ok(Bound::Instant(value.to_owned()))
            }
        },
    }
}

fn offsets(value: &str) -> Option<Vec<(i32, i64)>> {
    let pair = |text: &str| {
        let (partition, offset) = text.split_once(':')?;
        let (partition, offset) = (partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?);
        (partition >= 0 && offset >= 0).then_some((partition, offset))
    };
    value.split(',').map(pair).collect()
}

fn partitions(value: &str) -> Option<Vec<i32>> {
    let mut numbers: Vec<i32> = value.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    numbers.first().is_some_and(|first| *first >= 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_topics_and_options_are_read() {
        let text = "//a:9092,b:9092/events,clicks?group=g&start=now-2h&end=latest&partitions=2,0,1&on_gap=continue\
                    &rdkafka.fetch.min.bytes=7,rdkafka.client.id=x&wait=1m&key=user_id&format=frames";
        let address = Address::parse(text, &Secrets::default()).unwrap();
        assert_eq!(address.to_string(), "kafka://a:9092,b:9092/events,clicks");
        let options = address.options;
        assert_eq!(options.group.as_deref(), Some("g"));
        assert_eq!((options.start, options.end), (Some(Bound::Instant("now-2h".into())), Some(Bound::Latest)));
        assert_eq!(options.partitions, Some(vec![0, 1, 2]));
        assert!(options.skips_gaps);
        assert_eq!((options.wait, options.form), (OutageLimit::parse("1m").unwrap(), Some(TopicFormat::Frames)));
        let avro =
            Address::parse("//b/t?format=avro&schemas=http://r:1/x?retry=1s%26down=dead&key=a", &Secrets::default())
                .unwrap()
                .options;
        assert_eq!(avro.schemas.as_deref(), Some("http://r:1/x?retry=1s&down=dead"));
        assert_eq!((avro.form, avro.key.as_deref(), avro.reader), (Some(TopicFormat::Avro), Some("a"), None));
        let reader = |text| {
            Address::parse(&format!("//b/t?format=avro&schemas=http://r&reader={text}"), &Secrets::default()).unwrap()
        };
        assert_eq!(reader("click:2&key=a").options.reader, Some(Choice::Subject("click".to_owned(), Some(2))));
        assert_eq!(options.settings[1], ("client.id".to_owned(), "x".to_owned()));
    }

    #[test]
    fn a_topic_gets_rows_exactly_once_only_if_the_uri_says_so() {
        for (text, expected) in
            [("//b/t", false), ("//b/t?exactly_once=true", true), ("//b/t?exactly_once=false", false)]
        {
            assert_eq!(Address::parse(text, &Secrets::default()).unwrap().exactly_once, expected, "{text}");
        }
    }

    #[test]
    fn offsets_are_told_from_instants() {
        let start = |text: &str| {
            Address::parse(&format!("//b/t?start={text}"), &Secrets::default()).unwrap().options.start.unwrap()
        };
        assert_eq!(start("0:17,3:0"), Bound::Offsets(vec![(0, 17), (3, 0)]));
        assert_eq!(start("2024-01-15T10:00:00Z"), Bound::Instant("2024-01-15T10:00:00Z".into()));
    }

    #[test]
    fn what_is_no_uri_of_kafka_is_a_usage_error() {
        for text in [
            "",
            "//b",
            "//b/",
            "///t",
            "//b/a b",
            "//u:p@b/t",
            "//b/t,t",
            "//b/t?bogus=1",
            "//b/t?group",
            "//b/t?start=",
            "//b/t?start=soon",
            "//b/t?end=earliest",
            "//b/t?partitions=-1",
            "//b/t?partitions=a",
            "//b/t?format=avro",
            "//b/t?schemas=http://r",
            "//b/t?format=avro&schemas=http://r&schema_id=",
            "//b/t?reader=7",
            "//b/t?format=frames&reader=latest",
            "//b/t?format=avro&schemas=http://r&reader=",
            "//b/t?format=xml",
            "//b/t?on_gap=maybe",
            "//b/t?rdkafka.acks=1",
            "//b/t?rdkafka.delivery.timeout.ms=5",
            "//b/t?rdkafka.metadata.broker.list=a:1",
            "//b/t?rdkafka.group.id=g",
            "//b/t?wait=5",
            "//b/t?exactly_once=yes",
            "//b/t?exactly_once",
        ] {
            let error = Address::parse(text, &Secrets::default()).expect_err(text);
            assert_eq!(error.kind(), evt_core::ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn a_file_of_settings_has_one_a_line() {
        let settings = parse_settings("# who\n\nsasl.username = me\nsasl.password=a=b \n").unwrap();
        assert_eq!(settings, [("sasl.username".into(), "me".into()), ("sasl.password".into(), "a=b".into())]);
        for (text, line) in [("x=1\nbogus", "2:"), ("acks=0", "1:")] {
            let error = parse_settings(text).unwrap_err();
            assert_eq!(error.kind(), evt_core::ErrorKind::Config);
            assert!(error.to_string().starts_with(line), "{error}");
        }
    }
}
