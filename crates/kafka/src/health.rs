//! Tracks outages of the brokers of one client, partitions whose leaders give no answer, and the times at which the
//! brokers of partitions have answered.

use super::client::{Context, GONE, Topics, describe};
use super::position::PartitionId;
use super::range::PartitionCursor;
use super::source::{FailingPartition, RecordSource};
use evt_core::error::{Error, Result};
use evt_core::kind::PartitionName;
use evt_core::time::{rounded, whole_seconds};
use evt_run::client::outage::trying_again;
use evt_run::clock::Clock;
use evt_run::input::UnreadPartition;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A record that arrives within this time after the outage began may have been buffered before the outage, so it does
/// not end the outage.
const BUFFERED_RECORDS_TIME: Duration = Duration::from_secs(1);

/// How long the leader of a partition may give errors and no answer before this is reported: a new leader is elected
/// within seconds.
const ELECTION: Duration = Duration::from_secs(10);
/// Interval at which the times of the brokers' answers are read.
const ANSWERS_EVERY: Duration = Duration::from_millis(100);
/// A longer time between two answers to evt's own requests is an outage. Brokers hold a request for half a second.
const FETCH_PAUSE: Duration = Duration::from_secs(2);
/// The same for librdkafka, whose statistics show its answers less often.
const STATISTICS_PAUSE: Duration = Duration::from_secs(5);

/// The reachability of the brokers of one client; reports the beginning and the end of an outage.
pub struct Health {
    topics: Topics,
    /// When the outage began, on the run's monotonic clock.
    down_since: Cell<Option<Duration>>,
    /// The number of the last outage that this client took part in.
    outage: Cell<Option<u64>>,
    /// Since when the reported partition has been without answers, on the run's monotonic clock; `None` if none is
    /// reported.
    failing_since: Cell<Option<Duration>>,
}

impl Health {
    /// Makes the state of a client whose brokers are reachable.
    pub fn new(topics: &Topics) -> Self {
        Self {
            topics: topics.clone(),
            down_since: Cell::new(None),
            outage: Cell::new(None),
            failing_since: Cell::new(None),
        }
    }

    /// Notes a transient error. Only `AllBrokersDown` begins an outage.
    pub fn note_error(&self, code: Code) {
        // Other errors concern one broker. librdkafka may repeat `AllBrokersDown` after each failed attempt to connect.
        if code == Code::AllBrokersDown {
            self.begin(self.now());
            self.report();
        }
    }

    fn now(&self) -> Duration {
        self.topics.run.clock.monotonic()
    }

    fn begin(&self, now: Duration) {
        self.down_since.set(self.down_since.get().or(Some(now)));
    }

    /// Reports the outage of this client, if there is one, once [`Outages`](evt_run::run::outages::Outages) confirms it
    /// as new.
    pub fn report(&self) {
        if !self.is_up() && self.must_report(self.now()) {
            let limit = self.topics.address.options.wait.limit(true);
            self.say(&format!("{}: {}", describe(Code::AllBrokersDown), trying_again(limit, "wait")));
        }
    }

    /// Notes a success, which ends an outage. A success within [`BUFFERED_RECORDS_TIME`] of its beginning does not
    /// count, because the record may have been buffered before.
    pub fn note_success(&self) {
        // This runs after every poll.
        let Some(since) = self.down_since.get() else { return };
        if self.now().saturating_sub(since) > BUFFERED_RECORDS_TIME {
            self.note_acknowledgement();
        }
    }

    /// Notes that brokers acknowledged a record that was in flight during the outage or later, which ends the outage.
    pub fn note_acknowledgement(&self) {
        if let Some(duration) = self.end(self.now()) {
            self.say(&format!("brokers are available again after {}", whole_seconds(duration)));
        }
    }

    fn say(&self, message: &str) {
        self.topics.run.console.say(format!("kafka://{}: {message}", self.topics.address.shown));
    }

    /// Whether the outage of this client must be reported now.
    fn must_report(&self, now: Duration) -> bool {
        let Some(since) = self.down_since.get() else { return false };
        let (number, must_report) = self.topics.run.outages.begin(&self.topics.address.brokers, since, now);
        self.outage.set(Some(number));
        must_report
    }

    /// Ends the outage of this client; returns its duration if this client has to report the end.
    fn end(&self, now: Duration) -> Option<Duration> {
        self.down_since.take()?;
        self.topics.run.outages.end(&self.topics.address.brokers, self.outage.get()?, now)
    }

    /// Whether there is no outage.
    pub fn is_up(&self) -> bool {
        self.down_since.get().is_none()
    }

    /// Reports that the leader of a partition gives no answer, and that all partitions have answers again. An outage of
    /// all brokers has its own message. Errors: exit status 69 if there is no answer for `wait=`.
    pub fn check_partitions(&self, failing: Option<FailingPartition<'_>>) -> Result<()> {
        if !self.is_up() {
            self.failing_since.set(None);
            return Ok(());
        }
        let Some(FailingPartition { id, time, why }) = failing else {
            if let Some(since) = self.failing_since.take() {
                let duration = whole_seconds(self.now().saturating_sub(since));
                self.topics.say(format!("all partitions are available again after {duration}"));
            }
            return Ok(());
        };
        let limit = self.topics.address.options.wait.limit(true);
        let is_over = limit.is_some_and(|limit| time >= limit);
        if !is_over && (time < ELECTION || self.failing_since.get().is_some()) {
            return Ok(());
        }
        let name = self.topics.partition_name(id);
        let (why, how) = match why {
            Some(why) => (why, trying_again(limit, "wait")),
            None => ("the topic does not exist any more", format!("retrying for up to {}", rounded(GONE))),
        };
        if is_over {
            let message = format!("{}: no response for {name} for {}", self.topics.address, whole_seconds(time));
            return Err(Error::unavailable(message).because(why));
        }
        self.failing_since.set(Some(self.now().saturating_sub(time)));
        self.topics.say(format!("{name} is unavailable: {why}: {how}"));
        Ok(())
    }

    /// Checks the length of the outage. Errors: exit status 69 if it has lasted for `wait=`, or if the client has lost
    /// all brokers.
    pub fn check(&self, context: &Context) -> Result<()> {
        self.topics.check_brokers(context)?;
        let address = &self.topics.address;
        let duration = self.down_since.get().map(|since| self.now().saturating_sub(since));
        match duration.zip(address.options.wait.limit(true)) {
            Some((duration, limit)) if duration >= limit => {
                let message = format!("{address}: no broker for {}", whole_seconds(duration));
                let cause = context.cause().unwrap_or_else(|| describe(Code::AllBrokersDown));
                Err(Error::unavailable(message).because(cause))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the time, on the run's monotonic clock, at which the broker of a partition had no record behind the end that
/// is known.
pub fn confirmed(cursor: &PartitionCursor, source: &dyn RecordSource, clock: &Clock) -> Option<Duration> {
    // Reads the clock first: if the process is suspended between the two reads, the time is too early, never too late.
    let time = |at: Instant| clock.monotonic().saturating_sub(at.elapsed());
    source.confirmed(cursor.id).or(cursor.confirmed).map(time)
}

/// The times in which the brokers of partitions have answered.
#[derive(Default)]
pub struct Answers {
    /// By partition, the time span from the first to the last answer without a longer pause between them.
    spans: BTreeMap<PartitionId, Range<Duration>>,
    /// The time of the next update.
    next: Duration,
}

impl Answers {
    /// Reads the times of the last answers. After a longer time without an answer, the span of a partition begins anew.
    pub fn update(&mut self, cursors: &[PartitionCursor], source: &dyn RecordSource, clock: &Clock) {
        let now = clock.monotonic();
        if now < self.next {
            return;
        }
        self.next = now + ANSWERS_EVERY;
        let pause = if source.has_own_connections() { FETCH_PAUSE } else { STATISTICS_PAUSE };
        for cursor in cursors.iter().filter(|cursor| cursor.is_read()) {
            let Some(last) = confirmed(cursor, source, clock) else { continue };
            let span = self.spans.entry(cursor.id).or_insert(last..last);
            match last.saturating_sub(span.end) > pause {
                true => *span = last..last,
                false => span.end = span.end.max(last),
            }
        }
    }

    /// Returns the partitions that have not ended, with the times in which their brokers have answered. `origin` names
    /// a topic by its number.
    pub fn unread<'a>(&self, cursors: &[PartitionCursor], origin: impl Fn(usize) -> &'a str) -> Vec<UnreadPartition> {
        let unread = |cursor: &PartitionCursor| UnreadPartition {
            input: 0,
            name: Some(PartitionName::new(origin(cursor.id.topic), cursor.id.number.to_string())),
            answered: self.spans.get(&cursor.id).filter(|_| !cursor.waits).cloned(),
        };
        cursors.iter().filter(|cursor| !cursor.ended).map(unread).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::test_data::FakeSource;
    use evt_core::error::ErrorKind;
    use evt_run::clock::SimulatedClock;
    use evt_run::run::Run;
    use std::rc::Rc;
    use std::sync::{Arc, Mutex};

    /// Two clients of the same brokers in one run, with a clock in milliseconds since its start.
    struct Clients {
        topics: Topics,
        healths: [Health; 2],
    }

    impl Clients {
        fn new() -> Self {
            let run = Rc::new(Run::unwatched("evt-test", Clock::System));
            let topics = Topics::new(&Address::parse("//a:9092/t", &Default::default()).unwrap(), &run);
            let healths = [Health::new(&topics), Health::new(&topics)];
            Self { topics, healths }
        }

        /// The client reports or confirms that no broker is reachable.
        fn go(&mut self, client: usize, millis: u64) -> bool {
            let now = Duration::from_millis(millis);
            self.healths[client].begin(now);
            self.healths[client].must_report(now)
        }

        fn come_back(&mut self, client: usize, millis: u64) -> Option<u128> {
            let now = Duration::from_millis(millis);
            self.healths[client].end(now).map(|duration| duration.as_millis())
        }
    }

    #[test]
    fn one_outage_of_some_brokers_is_news_once_and_is_over_once() {
        let mut clients = Clients::new();
        assert_eq!(clients.come_back(0, 0), None);
        assert!(clients.go(0, 0));
        assert!(!clients.go(1, 10), "another client of the same brokers");
        assert!(!clients.go(0, 20), "the next attempt");
        assert!(clients.topics.run.outages.begin("b", Duration::ZERO, Duration::ZERO).1, "other brokers");
        assert_eq!(clients.come_back(0, 2000), Some(2000));
        assert_eq!((clients.come_back(1, 2010), clients.come_back(0, 2020)), (None, None));
    }

    #[test]
    fn an_acknowledgement_ends_an_outage_at_once_and_a_record_that_may_have_been_buffered_does_not() {
        let clock = SimulatedClock::default();
        let run = Rc::new(Run::unwatched("evt-test", Clock::Simulated(clock.clone())));
        let health = Health::new(&Topics::new(&Address::parse("//a:9092/t", &Default::default()).unwrap(), &run));
        health.note_error(Code::AllBrokersDown);
        clock.advance(BUFFERED_RECORDS_TIME);
        health.note_success();
        assert!(!health.is_up());
        clock.advance(Duration::from_millis(1));
        health.note_success();
        assert!(health.is_up());
        health.note_error(Code::AllBrokersDown);
        health.note_acknowledgement();
        assert!(health.is_up());
    }

    #[test]
    fn an_outage_soon_after_another_is_reported_once_it_persists_and_a_late_error_of_the_first_is_not() {
        let mut clients = Clients::new();
        assert!(clients.go(0, 0));
        assert_eq!(clients.come_back(0, 3000), Some(3000));
        assert!(!clients.go(1, 3500), "a client whose turn is late");
        assert_eq!(clients.come_back(1, 8000), None, "the first one ended long ago");
        assert!(!clients.go(0, 9000) && !clients.go(1, 9100), "the second outage, or a late error of the first");
        assert!(clients.go(0, 16_000), "it persists");
        assert!(!clients.go(1, 16_100) && !clients.go(0, 30_000), "it is reported once");
        assert_eq!(clients.come_back(1, 40_000), Some(31_000), "it began with its first error");
        assert_eq!(clients.come_back(0, 40_100), None);
    }

    #[test]
    fn a_partition_without_answers_is_reported_once_until_all_partitions_have_answers() {
        let (clock, said) = (SimulatedClock::default(), Arc::<Mutex<String>>::default());
        let mut run = Run::unwatched("evt-test", Clock::Simulated(clock.clone()));
        run.console = run.console.captured(&said);
        let health =
            Health::new(&Topics::new(&Address::parse("//a:9092/t", &Default::default()).unwrap(), &Rc::new(run)));
        let id = PartitionId { topic: 0, number: 1 };
        let failing = |seconds| {
            clock.advance(Duration::from_secs(1));
            let time = Duration::from_secs(seconds);
            health.check_partitions(Some(FailingPartition { id, time, why: Some("it is away") }))
        };
        let lines = || std::mem::take(&mut *said.lock().unwrap());
        (0..10).for_each(|seconds| failing(seconds).unwrap());
        health.check_partitions(None).unwrap();
        assert_eq!(lines(), "", "a leader was elected in time");
        (0..20).for_each(|seconds| failing(seconds).unwrap());
        let reported = "t/1 is unavailable: it is away: retrying for up to 5m (?wait=)";
        assert_eq!(lines(), format!("evt-test: kafka://a:9092/t: {reported}\n"));
        health.check_partitions(None).unwrap();
        assert_eq!(lines(), "evt-test: kafka://a:9092/t: all partitions are available again after 19s\n");
        // An outage of all brokers has a line of its own.
        (0..20).for_each(|seconds| failing(seconds).unwrap());
        lines();
        health.note_error(Code::AllBrokersDown);
        failing(300).unwrap();
        health.note_acknowledgement();
        lines();
        health.check_partitions(None).unwrap();
        assert_eq!(lines(), "");
        assert_eq!(failing(300).unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn an_outage_long_after_another_is_news_at_once() {
        let mut clients = Clients::new();
        assert!(clients.go(0, 0));
        assert_eq!(clients.come_back(0, 2000), Some(2000));
        assert!(clients.go(1, 17_001));
    }

    #[test]
    fn who_has_had_no_answer_since_an_outage_that_is_over_begins_no_other() {
        let mut clients = Clients::new();
        assert!(clients.go(0, 0) && !clients.go(1, 100));
        assert_eq!(clients.come_back(0, 60_000), Some(60_000));
        assert!(!clients.go(1, 60_100) && !clients.go(1, 66_900), "idle, and about to notice that they are back");
        assert_eq!(clients.come_back(1, 66_950), None);
    }

    #[test]
    fn a_partition_is_read_up_to_the_last_answer_of_its_broker_unless_its_topic_is_read_later() {
        let (clock, source) = (SimulatedClock::default(), FakeSource::default());
        let wait = |seconds| clock.advance(Duration::from_secs(seconds));
        let cursor = |topic, waits| PartitionCursor { waits, ..PartitionCursor::new(PartitionId { topic, number: 7 }) };
        let mut cursors = [cursor(0, false), cursor(1, true)];
        let mut answers = Answers::default();
        // For each partition, the seconds from the first to the last answer.
        let mut look = |cursors: &[PartitionCursor]| {
            answers.update(cursors, &source, &Clock::Simulated(clock.clone()));
            let unread = answers.unread(cursors, |topic| ["first", "second"][topic]);
            let seconds = |span: Range<Duration>| (span.end - span.start).as_secs_f64().round();
            let named = |one: UnreadPartition| (one.name.unwrap().origin, one.answered.map(seconds));
            unread.into_iter().map(named).collect::<Vec<_>>()
        };
        let both = |first, second| vec![("first".to_owned(), first), ("second".to_owned(), second)];
        wait(100);
        assert_eq!(look(&cursors), both(None, None), "no broker has answered");
        for (after, answered) in [(1, 0.0), (2, 2.0), (4, 6.0), (60, 0.0), (1, 1.0)] {
            wait(after);
            cursors.iter_mut().for_each(|cursor| cursor.confirmed = Some(Instant::now()));
            assert_eq!(look(&cursors), both(Some(answered), None), "an answer {after} s after the one before");
        }
        cursors.iter_mut().for_each(|cursor| cursor.confirmed = None);
        wait(60);
        assert_eq!(look(&cursors), both(Some(1.0), None), "nothing is known of the time since the last answer");
        cursors[0].ended = true;
        cursors[1].waits = false;
        assert_eq!(look(&cursors), both(None, None)[1..], "its topic has its turn");
    }
}
