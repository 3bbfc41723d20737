//! The event time of files whose field no flag names: the first record shows it, and all records of the run are read
//! so.

use super::FlagChecks;
use crate::console::Console;
use crate::emit::chunk::ChunkMapper;
use evt_core::mapping;

/// Takes the event time from a field with a usual name, if it is sought and the first record has one.
pub(in crate::emit) fn choose(text: Option<&str>, mapper: &mut ChunkMapper, flags: &mut FlagChecks, console: &Console) {
    if !std::mem::take(&mut flags.seeks_time) || mapper.builds_others() {
        return;
    }
    let when = mapper.events().seeks_time();
    let Some((text, when)) = text.zip(when) else { return };
    let Some(name) = mapping::usual_time(text, when) else { return };
    // A tool that needs no time shows a date beside a time of day as it is.
    if !mapper.events().needs_time() && mapping::split_time(text, &name).is_some() {
        return;
    }
    console.notice(format!("the event time is the field {name}; --time {name} says so, --time FIELD takes another"));
    // Other records may have a time of their own, which comes first.
    mapper.take_time_from(&format!("server_timestamp,event_time,{name}"));
    flags.first_times.set_time(&name);
}
