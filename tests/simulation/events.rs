//! The input of a simulated pipe: lines of events, some late, repeated or malformed.

use evt_core::generate::random::Random;
use evt_core::time::format_instant;
use std::ops::Range;

const SECOND: i64 = 1_000_000;
/// 2024-01-15T10:00:00Z.
const START: i64 = 1_705_312_800 * SECOND;
/// Malformed lines, each of another kind.
const MALFORMED: [&str; 4] = ["{\"event_id\":", "no JSON", "17", "{\"server_timestamp\":\"yesterday\"}"];

/// Lines and the stream time behind each.
pub struct Input {
    pub bytes: Vec<u8>,
    /// The end of each line, and the greatest event time up to it.
    lines: Vec<(usize, i64)>,
}

impl Input {
    /// Makes no lines.
    pub fn none() -> Self {
        Self { bytes: vec![], lines: vec![] }
    }

    /// Makes 20 to 150 lines; the ids of their events begin at `first`.
    pub fn random(random: &mut Random, first: u64) -> Self {
        let mut input = Self::none();
        let (mut now, mut ranges): (i64, Vec<Range<usize>>) = (START, vec![]);
        let mut stream_time = i64::MIN;
        for number in first..first + 20 + random.below(130) {
            now += random.below(20) as i64 * SECOND / 2;
            let start = input.bytes.len();
            match random.below(100) {
                0..5 if !ranges.is_empty() => {
                    let again = ranges[random.below(ranges.len() as u64) as usize].clone();
                    input.bytes.extend_from_within(again);
                }
                5..10 => input.bytes.extend(MALFORMED[random.below(4) as usize].as_bytes()),
                kind => {
                    let late = if kind < 18 { 60 + random.below(240) as i64 } else { random.below(25) as i64 };
                    let time = now - late * SECOND;
                    stream_time = stream_time.max(time);
                    input.bytes.extend(event(number, time, random).as_bytes());
                    ranges.push(start..input.bytes.len());
                }
            }
            input.bytes.push(b'\n');
            input.lines.push((input.bytes.len(), stream_time));
        }
        input
    }

    /// The greatest event time in the first `fed` bytes.
    pub fn stream_time(&self, fed: usize) -> i64 {
        let lines = self.lines.partition_point(|(end, _)| *end <= fed);
        // The end of a stopped input makes a record of an unfinished line.
        self.lines[..(lines + 1).min(self.lines.len())]
            .last()
            .map_or(i64::MIN / 2, |(_, time)| (*time).max(i64::MIN / 2))
    }
}

fn event(number: u64, time: i64, random: &mut Random) -> String {
    let (kind, amount) = (["view", "click", "buy"][random.below(3) as usize], random.below(1000));
    let filler = "x".repeat(random.below(60) as usize);
    format!(
        "{{\"event_id\":\"00000000-0000-4000-8000-{number:012}\",\"source\":\"web\",\"event_type\":\"{kind}\",\
         \"user_id\":\"u{}\",\"server_timestamp\":\"{}\",\"properties\":{{\"amount\":{amount},\"filler\":\"{filler}\"}}}}",
        random.below(7),
        format_instant(time)
    )
}
