//! One event and its JSON line.
//!
//! Fields have a fixed order, by which [`super::defect`] finds them again: event_id, source, event_type, user_id,
//! shard, properties, client_timestamp, server_timestamp.

use super::options::Options;
use super::random::{Random, Zipf};
use crate::time::stamp::Stamp;
use crate::time::{MILLISECOND, MINUTE, SECOND};

/// Event types, the most frequent first.
pub const EVENT_TYPES: [&str; 8] =
    ["page_view", "click", "scroll", "search", "add_to_cart", "purchase", "signup", "error"];

/// The latest version of the schemas of events.
pub const SCHEMA_VERSION_MAX: u32 = 2;

/// The sources of events, all equally likely.
pub const SOURCES: [&str; 5] = ["web", "ios", "android", "server", "partner"];

/// ISO 3166 codes, the most frequent first.
pub const COUNTRIES: [&str; 40] = [
    "US", "IN", "BR", "DE", "GB", "FR", "JP", "CA", "AU", "MX", "ES", "IT", "NL", "SE", "PL", "TR", "ID", "KR", "AR",
    "ZA", "NG", "EG", "SA", "AE", "CH", "BE", "AT", "DK", "NO", "FI", "PT", "GR", "CZ", "RO", "HU", "IL", "SG", "TH",
    "VN", "NZ",
];

/// Devices, the most frequent first.
pub const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];

/// The platform in the user agent of each of [`DEVICES`].
const PLATFORMS: [&str; DEVICES.len()] =
    ["Linux; Android 15; Pixel 9", "Windows NT 10.0; Win64; x64", "iPad; CPU OS 18_2"];
const SECTIONS: [&str; 5] = ["home", "item", "list", "cart", "help"];
/// Maximum lag of a client's clock behind the server's (µs).
const CLIENT_LAG_MAX: i64 = 2 * SECOND;

/// The values of one line that an expected result may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The UUID (version 4) as a number; no two events of a seed share one.
    pub event_id: u128,
    /// One of [`SOURCES`].
    pub source: &'static str,
    /// One of [`EVENT_TYPES`].
    pub event_type: &'static str,
    /// The user's number, below `users`; `None` for anonymous events. Formatted by [`user_text`].
    pub user: Option<u32>,
    /// The partition's number, below `partitions`: a user's events share one.
    pub shard: u32,
    /// The page's number, below `pages`. Formatted by [`page_text`].
    pub page: u32,
    /// One of [`COUNTRIES`].
    pub country: &'static str,
    /// One of [`DEVICES`].
    pub device: &'static str,
    /// The version of its schema, from 1.
    pub schema_version: u32,
    /// The client's time of the event (µs).
    pub client_timestamp: i64,
    /// The server's time of the event (µs): the default event time.
    pub server_timestamp: i64,
}

/// Formats a user's number as the text of `user_id`.
pub fn user_text(user: u32) -> String {
    format!("u-{user:08}")
}

/// Formats a page's number as the text of the property `page`.
pub fn page_text(page: u32) -> String {
    format!("/shop/{}/{page:04}", SECTIONS[page as usize % SECTIONS.len()])
}

/// The tables that events are drawn from, and the texts that repeat.
pub(super) struct Vocabulary {
    seed: u64,
    users: Zipf,
    pages: Zipf,
    countries: Zipf,
    event_types: Zipf,
    devices: Zipf,
    partitions: u32,
    schema_versions: u64,
    disorder: u64,
    referrers: Vec<String>,
    agents: Vec<String>,
}

impl Vocabulary {
    pub(super) fn new(options: &Options) -> Self {
        let agent = |n: usize| {
            let (platform, version) = (PLATFORMS[n % PLATFORMS.len()], 120 + n / PLATFORMS.len());
            format!("Mozilla/5.0 ({platform}) AppleWebKit/537.36 Chrome/{version}.0.0.0")
        };
        Self {
            seed: options.seed,
            users: Zipf::new(options.users, options.skew),
            pages: Zipf::new(options.pages, options.skew),
            countries: Zipf::new(options.countries, options.skew),
            event_types: Zipf::new(options.event_types, options.skew),
            devices: Zipf::new(DEVICES.len() as u32, options.skew),
            partitions: options.partitions,
            schema_versions: u64::from(options.schema_versions),
            disorder: options.disorder.unsigned_abs(),
            referrers: (0..50).map(|n| format!("https://ref{n:02}.example.com/l?c={}", n * 37 % 1000)).collect(),
            agents: (0..48).map(agent).collect(),
        }
    }

    /// Draws the event that arrives at `arrival` (µs).
    #[inline]
    pub(super) fn draw(&self, random: &mut Random, arrival: i64) -> Event {
        let event_id = uuid_v4(random);
        let user = self.users.pick(random);
        let anonymous = random.below(10) == 0;
        let key = if anonymous { random.below(u64::from(u32::MAX)) as u32 } else { user };
        let server_timestamp = arrival - random.mostly_small(self.disorder + 1) as i64;
        Event {
            event_id,
            source: SOURCES[random.below(SOURCES.len() as u64) as usize],
            event_type: EVENT_TYPES[self.event_types.pick(random) as usize],
            user: (!anonymous).then_some(user),
            shard: key % self.partitions,
            page: self.pages.pick(random),
            country: COUNTRIES[self.countries.pick(random) as usize],
            device: DEVICES[self.devices.pick(random) as usize],
            schema_version: 1 + random.below(self.schema_versions) as u32,
            client_timestamp: server_timestamp - random.mostly_small(CLIENT_LAG_MAX.unsigned_abs()) as i64,
            server_timestamp,
        }
    }

    /// Appends `event` as a JSON object. Values that no result depends on are drawn here.
    pub(super) fn write(&self, event: &Event, random: &mut Random, stamp: &mut Stamp, out: &mut Vec<u8>) {
        put(out, "{\"event_id\":\"");
        uuid(out, event.event_id);
        put(out, "\",\"source\":\"");
        put(out, event.source);
        put(out, "\",\"event_type\":\"");
        put(out, event.event_type);
        match event.user {
            Some(user) => {
                put(out, "\",\"user_id\":\"u-");
                decimal(out, u64::from(user), 8);
                put(out, "\",");
            }
            None => put(out, "\",\"user_id\":null,"),
        }
        if self.partitions > 1 {
            put(out, "\"shard\":\"");
            decimal(out, u64::from(event.shard), 1);
            put(out, "\",");
        }
        self.properties(event, random, out);
        put(out, ",\"client_timestamp\":\"");
        put(out, stamp.text(event.client_timestamp));
        put(out, "\",\"server_timestamp\":\"");
        put(out, stamp.text(event.server_timestamp));
        put(out, "\"}");
    }

    /// Returns one of the browsers of a device.
    fn agent(&self, device: &str, random: &mut Random) -> &str {
        let kind = DEVICES.iter().position(|name| *name == device).unwrap_or(0);
        let version = random.below((self.agents.len() / DEVICES.len()) as u64) as usize;
        &self.agents[version * DEVICES.len() + kind]
    }

    /// Returns the session id. A user's session lasts half an hour of event time; an anonymous event is a session of
    /// its own.
    fn session(&self, event: &Event, random: &mut Random) -> u128 {
        let Some(user) = event.user else { return uuid_v4(random) };
        let half_hour = event.server_timestamp.div_euclid(30 * MINUTE) as u64;
        uuid_v4(&mut Random::at((!self.seed).wrapping_add(u64::from(user)), half_hour))
    }

    fn properties(&self, event: &Event, random: &mut Random, out: &mut Vec<u8>) {
        put(out, "\"properties\":{\"page\":\"/shop/");
        put(out, SECTIONS[event.page as usize % SECTIONS.len()]);
        put(out, "/");
        decimal(out, u64::from(event.page), 4);
        put(out, "\",\"country\":\"");
        put(out, event.country);
        put(out, "\",\"device\":\"");
        put(out, event.device);
        put(out, "\",\"latency_ms\":");
        fixed(out, 4 * MILLISECOND.unsigned_abs() + random.mostly_small(2 * SECOND.unsigned_abs()), 3);
        if event.event_type == "purchase" {
            put(out, ",\"amount\":");
            fixed(out, 100 + random.mostly_small(50_000), 2);
        }
        put(out, ",\"referrer\":\"");
        put(out, &self.referrers[random.below(self.referrers.len() as u64) as usize]);
        put(out, "\",\"session_id\":\"");
        uuid(out, self.session(event, random));
        put(out, "\",\"ua\":\"");
        put(out, self.agent(event.device, random));
        match random.below(24) {
            campaign @ 0..16 => {
                put(out, "\",\"campaign\":\"spring-");
                decimal(out, campaign, 2);
                put(out, "\"");
            }
            _ => put(out, "\",\"campaign\":null"),
        }
        if event.schema_version > 1 {
            put(out, if random.below(2) == 0 { ",\"experiment\":\"a\"" } else { ",\"experiment\":\"b\"" });
        }
        put(out, "}");
    }
}

#[inline]
fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Writes `value` with at least `width` digits.
fn decimal(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[start.min(digits.len() - width)..]);
}

/// Writes `value` thousandths (`places` 3) or hundredths (2) as a decimal fraction.
fn fixed(out: &mut Vec<u8>, value: u64, places: u32) {
    let unit = 10u64.pow(places);
    decimal(out, value / unit, 1);
    put(out, ".");
    decimal(out, value % unit, places as usize);
}

/// Returns 122 random bits with the version and variant of RFC 9562.
#[inline]
fn uuid_v4(random: &mut Random) -> u128 {
    let bits = (u128::from(random.bits()) << 64) | u128::from(random.bits());
    (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
}

fn uuid(out: &mut Vec<u8>, id: u128) {
    put(out, uuid::Uuid::from_u128(id).hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_leading_and_trailing_zeros() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = vec![];
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&|out| decimal(out, 7, 4)), "0007");
        assert_eq!(text(&|out| decimal(out, 123_456, 4)), "123456");
        assert_eq!(text(&|out| decimal(out, 0, 1)), "0");
        assert_eq!(text(&|out| fixed(out, 12_034, 3)), "12.034");
        assert_eq!(text(&|out| fixed(out, 5, 2)), "0.05");
    }
}
