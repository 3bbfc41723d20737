//! The event time of files whose field no flag names: the first record shows it, and all records of the run are read so.

use super::RecordEmitter;
use evt_core::mapping;

impl RecordEmitter {
    /// Lets the first record of a file show which field is its time, if no flag names one and it has no usual time.
    pub fn seek_time(&mut self) {
        self.stamp.flags.seeks_time = self.mapper.events().seeks_time().is_some();
    }

    /// Takes the event time from a field with a usual name, if the first record has one.
    pub(super) fn choose_time(&mut self, text: Option<&str>) {
        if !std::mem::take(&mut self.stamp.flags.seeks_time) || self.mapper.builds_others() {
            return;
        }
        let when = self.mapper.events().seeks_time();
        let Some(name) = text.zip(when).and_then(|(text, when)| mapping::usual_time(text, when)) else { return };
        self.run
            .console
            .notice(format!("the event time is the field {name}; --time {name} says so, --time FIELD takes another"));
        self.mapper.take_time_from(&name);
        self.stamp.flags.first_times.set_time(&name);
    }
}
