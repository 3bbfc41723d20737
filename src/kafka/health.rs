//! Whether the brokers of one client are reachable, and since when they are not.

use super::client::{Context, describe};
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::run::outages::Outages;
use crate::secret;
use crate::store::remote::{Away, rounded, trying_again};
use crate::uri::kafka::Address;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::{Duration, Instant};

/// A record that arrives within this time after the outage began may have been buffered before it, and does not end the outage.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// The reachability of the brokers of one client; reports the beginning and the end of an outage.
pub struct Health {
    wait: Away,
    down_since: Option<Instant>,
    /// The number of the last outage that this client took part in.
    outage: Option<u64>,
}

impl Health {
    /// Begins reachable; `wait` limits how long an outage may last.
    pub fn new(wait: Away) -> Self {
        Self { wait, down_since: None, outage: None }
    }

    /// Notes a transient error. Only `AllBrokersDown` begins an outage.
    pub fn note_error(&mut self, address: &Address, run: &Run, code: Code) {
        // Other errors concern one broker. librdkafka may repeat this one after each failed attempt to connect.
        if code == Code::AllBrokersDown {
            self.down_since.get_or_insert_with(Instant::now);
            self.report(address, run);
        }
    }

    /// Reports the outage of this client, if there is one, once [`Outages`] confirms it as new.
    pub fn report(&mut self, address: &Address, run: &Run) {
        if self.down_since.is_some() && self.is_news(&run.outages, &address.brokers, Instant::now()) {
            let (brokers, cause) = (secret::shown(&address.brokers), describe(Code::AllBrokersDown));
            run.console.say(format!("kafka://{brokers}: {cause}: {}", trying_again(self.wait.limit(true), "wait")));
        }
    }

    /// Notes a success, which ends an outage. What was buffered before the outage does not count.
    pub fn note_success(&mut self, address: &Address, run: &Run) {
        // This runs for every record.
        if self.down_since.is_none() {
            return;
        }
        if let Some(away) = self.come_back(&run.outages, &address.brokers, Instant::now()) {
            let brokers = secret::shown(&address.brokers);
            run.console.say(format!("kafka://{brokers}: brokers are available again after {}", whole_seconds(away)));
        }
    }

    /// Whether the outage of this client must be reported now.
    fn is_news(&mut self, outages: &Outages, brokers: &str, now: Instant) -> bool {
        let Some(since) = self.down_since else { return false };
        let (number, is_news) = outages.begin(brokers, since, now);
        self.outage = Some(number);
        is_news
    }

    /// Ends the outage of this client; returns its duration if this client has to report the end.
    fn come_back(&mut self, outages: &Outages, brokers: &str, now: Instant) -> Option<Duration> {
        self.down_since.take_if(|since| now.saturating_duration_since(*since) > LEFTOVERS)?;
        outages.end(brokers, self.outage?, now)
    }

    /// Whether there is no outage.
    pub fn is_up(&self) -> bool {
        self.down_since.is_none()
    }

    /// Checks the length of the outage. Errors: exit status 69 if it has lasted for `wait=`.
    pub fn check(&self, address: &Address, context: &Context) -> Result<()> {
        match self.down_since.zip(self.wait.limit(true)) {
            Some((since, limit)) if since.elapsed() >= limit => {
                let message = format!("{address}: no broker for {}", whole_seconds(since.elapsed()));
                let cause = context.cause().unwrap_or_else(|| describe(Code::AllBrokersDown));
                Err(Error::new(ErrorKind::Unavailable, message).because(cause))
            }
            _ => Ok(()),
        }
    }
}

/// Formats the duration of an outage, in whole seconds.
pub fn whole_seconds(time: Duration) -> String {
    rounded(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clients of the same brokers in one run, with a clock in milliseconds since its start.
    struct Clients {
        outages: Outages,
        start: Instant,
        healths: [Health; 2],
    }

    impl Clients {
        fn new() -> Self {
            let (outages, start) = (Outages::default(), Instant::now());
            Self { outages, start, healths: [Health::new(Away::Usual), Health::new(Away::Usual)] }
        }

        /// The client reports or confirms that no broker is reachable.
        fn go(&mut self, client: usize, millis: u64) -> bool {
            let now = self.start + Duration::from_millis(millis);
            self.healths[client].down_since.get_or_insert(now);
            self.healths[client].is_news(&self.outages, "a", now)
        }

        fn come_back(&mut self, client: usize, millis: u64) -> Option<u128> {
            let now = self.start + Duration::from_millis(millis);
            self.healths[client].come_back(&self.outages, "a", now).map(|away| away.as_millis())
        }
    }

    #[test]
    fn one_outage_of_some_brokers_is_news_once_and_is_over_once() {
        let mut clients = Clients::new();
        assert_eq!(clients.come_back(0, 0), None);
        assert!(clients.go(0, 0));
        assert!(!clients.go(1, 10), "another client of the same brokers");
        assert!(!clients.go(0, 20), "the next attempt");
        assert!(clients.outages.begin("b", clients.start, clients.start).1, "other brokers");
        assert_eq!(clients.come_back(0, 900), None, "buffered before the outage");
        assert_eq!(clients.come_back(0, 2000), Some(2000));
        assert_eq!((clients.come_back(1, 2010), clients.come_back(0, 2020)), (None, None));
    }

    #[test]
    fn an_outage_soon_after_another_is_reported_once_it_persists_and_a_late_error_of_the_first_is_not() {
        let mut clients = Clients::new();
        assert!(clients.go(0, 0));
        assert_eq!(clients.come_back(0, 3000), Some(3000));
        assert!(!clients.go(1, 3500), "a client that was asked late");
        assert_eq!(clients.come_back(1, 8000), None, "the first one ended long ago");
        assert!(!clients.go(0, 9000) && !clients.go(1, 9100), "the second outage, or a late error of the first");
        assert!(clients.go(0, 16_000), "it persists");
        assert!(!clients.go(1, 16_100) && !clients.go(0, 30_000), "it is reported once");
        assert_eq!(clients.come_back(1, 40_000), Some(31_000), "it began with its first error");
        assert_eq!(clients.come_back(0, 40_100), None);
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
}
