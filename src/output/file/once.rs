//! Appends batches to a file of lines, each exactly once, whatever kills the process.
//!
//! Before a batch is appended, an intent beside the file (`NAME.evt.ID`) records its bytes and the length of the file,
//! durably and under a name that only a whole intent has. The writer that takes the lock next finishes the batch of an
//! intent: it compares the file with the bytes and appends what is missing. `ID` is the beginning of the id of the
//! ledger that numbers the batches; an intent of another ledger is finished too, and left for its ledger to close. A
//! checkpoint is a ledger whose batches are the pieces of its epochs; it keeps the intent of its last batch, without
//! bytes, to know what it has appended. If the file has no byte of the batch of another ledger, the writer appends the
//! batch only if it is a piece of an epoch: such an epoch is complete, but a ledger of replays may have closed the
//! batch.

pub use super::intent::BatchId;
use super::intent::Intent;
use super::records::{RecordForm, is_object};
use super::{check_locked, is_same, whole_lines};
use evt_core::error::{Error, Result};
use evt_run::storage::access;
use evt_run::storage::disk::{Disk, DiskFile, LOCK_WAIT, failed, lock_within};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The text between the name of the file and the id of the ledger in the name of an intent.
const INFIX: &str = ".evt.";
/// Characters of the ledger's id in the name of an intent.
const ID_LENGTH: usize = 8;
/// A file that is appended to once.
pub struct OnceFile {
    path: PathBuf,
    disk: Disk,
    ledger: String,
    form: RecordForm,
    /// The open file; its lock is held until it is closed.
    file: Option<DiskFile>,
}

impl OnceFile {
    /// Names a file of JSON lines; `ledger` is the id of the ledger that numbers the batches.
    pub fn new(path: PathBuf, ledger: &str, disk: Disk) -> Self {
        Self { path, disk, ledger: ledger.to_owned(), form: RecordForm::default(), file: None }
    }

    /// Sets the form of its records.
    pub fn with_form(self, form: RecordForm) -> Self {
        Self { form, ..self }
    }

    /// Opens the file, which is created if it is missing, and waits for its lock. Errors: exit status 75 if another
    /// process keeps the lock for a minute.
    pub fn lock(&mut self) -> Result<()> {
        loop {
            let file = self.disk.open(&self.path, OpenOptions::new().read(true).append(true).create(true));
            let file = file.map_err(failed(&self.path))?;
            check_locked(lock_within(&file.file, LOCK_WAIT), &self.path)?;
            // Between open and lock, another program may have renamed or deleted this file.
            if is_same(&file.file, &self.path) {
                self.file = Some(file);
                return Ok(());
            }
        }
    }

    /// Releases the lock.
    pub fn unlock(&mut self) {
        self.file = None;
    }

    /// Finishes the batches of all intents beside the file, under the lock. `is_open` says whether a batch of this
    /// ledger is open; the intent of a closed batch is removed. Returns the open batches of this ledger that are
    /// complete now.
    ///
    /// Errors: exit status 65 if an intent is damaged, or the file has changed so that a batch cannot be finished; that
    /// intent and the later ones stay as they are.
    pub fn finish_intents(&mut self, is_open: impl Fn(i64) -> bool) -> Result<Vec<i64>> {
        let mut complete = vec![];
        for path in self.intents()? {
            let intent = Intent::read(&path)?;
            let is_own = intent.ledger == self.ledger;
            if intent.is_done {
                continue;
            }
            let batch = intent.batch.number.cast_signed();
            if is_own && !is_open(batch) {
                self.remove(&path)?;
                continue;
            }
            self.finish(&path, &intent, is_own)?;
            if is_own {
                complete.push(batch);
            }
        }
        Ok(complete)
    }

    /// Finishes the batches of all intents beside the file, under the lock; returns the last batch of this ledger,
    /// which is complete now. Errors: as [`OnceFile::finish_intents`].
    pub fn last_batch(&mut self) -> Result<Option<BatchId>> {
        let mut last = None;
        for path in self.intents()? {
            let intent = Intent::read(&path)?;
            let is_own = intent.ledger == self.ledger;
            if !intent.is_done {
                self.finish(&path, &intent, is_own)?;
            }
            if is_own {
                last = Some(intent.batch);
                self.set_done(intent.batch)?;
            }
        }
        Ok(last)
    }

    /// Returns the last batch of this ledger, which may be incomplete; changes nothing and needs no lock.
    pub fn begun_batch(&self) -> Result<Option<BatchId>> {
        let path = self.own_intent();
        let intent = path.exists().then(|| Intent::read(&path)).transpose()?;
        Ok(intent.filter(|intent| intent.ledger == self.ledger).map(|intent| intent.batch))
    }

    /// Appends a batch of a checkpoint, under the lock, and keeps its number. An empty file gets `header` first.
    pub fn append_piece(&mut self, batch: BatchId, header: &[u8], bytes: &[u8]) -> Result<()> {
        let length = self.end_line()?;
        let header = if length == 0 { header } else { &[] };
        let bytes = [header, bytes].concat();
        self.write_intent(&Intent {
            ledger: self.ledger.clone(),
            batch,
            is_done: false,
            length,
            bytes: bytes.clone(),
        })?;
        self.write(&bytes)?;
        self.set_done(batch)
    }

    /// Records the number of a complete batch in the intent of this ledger.
    fn set_done(&mut self, batch: BatchId) -> Result<()> {
        let path = self.path.clone();
        let length = self.file()?.file.metadata().map_err(failed(&path))?.len();
        self.write_intent(&Intent { ledger: self.ledger.clone(), batch, is_done: true, length, bytes: vec![] })
    }

    /// Returns the path for messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Appends a batch, under the lock: its intent, its bytes (lines), durably. The intent stays until
    /// [`OnceFile::close`].
    pub fn append(&mut self, batch: i64, bytes: &[u8]) -> Result<()> {
        let length = self.end_line()?;
        let (ledger, batch) = (self.ledger.clone(), BatchId::of_ledger(batch));
        let intent = Intent { ledger, batch, is_done: false, length, bytes: bytes.to_vec() };
        self.write_intent(&intent)?;
        self.write(bytes)
    }

    /// Removes the intent of a batch that its ledger has closed.
    pub fn close(&mut self) -> Result<()> {
        let path = self.own_intent();
        if path.exists() { self.remove(&path) } else { Ok(()) }
    }

    fn file(&mut self) -> Result<&mut DiskFile> {
        self.file.as_mut().ok_or_else(|| Error::broken("a file is written without its lock"))
    }

    /// Removes the incomplete last line that a killed writer left, or adds the newline to a last line that is a whole
    /// JSON object. Returns the length of the file.
    fn end_line(&mut self) -> Result<u64> {
        let path = self.path.clone();
        let failed = failed(&path);
        let file = self.file()?;
        let length = file.file.metadata().map_err(&failed)?.len();
        let whole = whole_lines(&file.file, length).map_err(&failed)?;
        if whole == length {
            return Ok(length);
        }
        if is_object(&read_range(&file.file, whole, length).map_err(&failed)?) {
            file.write_all(b"\n").map_err(&failed)?;
            return Ok(length + 1);
        }
        file.truncate(whole).map_err(&failed)?;
        Ok(whole)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.path.clone();
        let file = self.file()?;
        file.write_all(bytes).and_then(|()| file.sync_data()).map_err(failed(&path))
    }

    /// Appends the bytes of an intent that the file does not have. `is_own`: the intent is that of this ledger.
    fn finish(&mut self, intent_path: &Path, intent: &Intent, is_own: bool) -> Result<()> {
        let path = self.path.clone();
        let failed = failed(&path);
        let file = &self.file()?.file;
        let length = file.metadata().map_err(&failed)?.len();
        if length < intent.length {
            let (found, at_least) = (length, intent.length);
            let message = format!(
                "{}: expected a file of at least {at_least} bytes, found {found}: it was truncated or replaced \
                 while a batch was appended; restore it, or remove the intent: lines of the batch may then be appended twice",
                intent_path.display()
            );
            return if is_own { Err(Error::corrupt(message)) } else { Ok(()) };
        }
        let end = length.min(intent.length + intent.bytes.len() as u64);
        let found = read_range(file, intent.length, end).map_err(&failed)?;
        let same = found.iter().zip(&intent.bytes).take_while(|(found, wanted)| found == wanted).count();
        if same == intent.bytes.len() {
            // Only syncs the file: the power may have failed after the append.
            return self.write(&[]);
        }
        if same == found.len() && (is_own || same > 0 || intent.batch.is_of_epoch()) {
            return self.write(&intent.bytes[same..]);
        }
        if !is_own {
            return Ok(());
        }
        self.finish_behind(intent_path, intent, same)
    }

    /// Finishes a batch although other records follow its beginning in the file: appends the records that are missing,
    /// with an intent of their own. `same` bytes of the batch are in the file.
    fn finish_behind(&mut self, intent_path: &Path, intent: &Intent, same: usize) -> Result<()> {
        let path = self.path.clone();
        let failed = failed(&path);
        let form = self.form;
        let whole = form.whole(&intent.bytes[..same]);
        let start = intent.length + whole as u64;
        // Unless the line at `start` is torn, the record at `start` is that of another writer.
        if whole < same && !form.is_whole_at(&self.file()?.file, start).map_err(&failed)? {
            let message = format!(
                "{}: the line at byte {} of the file is torn, and other lines follow it; repair the line, then \
                 remove the intent; lines of the batch may then be appended twice",
                intent_path.display(),
                start + 1
            );
            return Err(Error::corrupt(message));
        }
        let rest = intent.bytes[whole..].to_vec();
        let intent = Intent { length: self.end_line()?, bytes: rest, ..intent.clone() };
        self.write_intent(&intent)?;
        self.write(&intent.bytes)
    }

    /// Writes the intent of this ledger durably; a rename makes it visible as a whole.
    fn write_intent(&self, intent: &Intent) -> Result<()> {
        let path = self.own_intent();
        let written = self.disk.write_whole(&path, &path.with_added_extension("part"), &intent.to_bytes());
        written.map_err(failed(&path))
    }

    fn remove(&self, intent: &Path) -> Result<()> {
        let removed = self.disk.free(|| std::fs::remove_file(intent));
        removed.and_then(|()| self.disk.sync_directory(access::parent(intent))).map_err(failed(intent))
    }

    /// Returns the path of this ledger's intent.
    fn own_intent(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(INFIX);
        path.push(&self.ledger[..self.ledger.len().min(ID_LENGTH)]);
        path.into()
    }

    /// Returns the intents beside the file.
    fn intents(&self) -> Result<Vec<PathBuf>> {
        let directory = access::parent(&self.path);
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(INFIX);
        let entries = std::fs::read_dir(directory).map_err(failed(directory))?;
        let mut found = vec![];
        for entry in entries {
            let path = entry.map_err(failed(directory))?.path();
            let end = path.file_name().and_then(|own| own.as_encoded_bytes().strip_prefix(name.as_encoded_bytes()));
            if end.is_some_and(|end| end.len() == ID_LENGTH) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

fn read_range(file: &File, start: u64, end: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;
    use evt_run::storage::disk::DiskFault;
    use std::collections::BTreeSet;
    use tempfile::TempDir;

    const LEDGER: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";

    fn lines(batch: i64) -> String {
        (0..3).map(|n| format!("{{\"batch\":{batch},\"n\":{n}}}\n")).collect()
    }

    struct Bench(TempDir);

    impl Bench {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("out.jsonl")
        }

        fn open(&self, ledger: &str, disk: Disk) -> OnceFile {
            OnceFile::new(self.path(), ledger, disk)
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.path()).unwrap_or_default()
        }

        /// The names beside the file.
        fn beside(&self) -> BTreeSet<String> {
            let names = std::fs::read_dir(self.0.path()).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name != "out.jsonl").collect()
        }

        /// Writes a file and an intent for batch 7, as a killed process left them.
        fn interrupted(&self, before: &str, after: &str) {
            std::fs::write(self.path(), format!("{before}{after}")).unwrap();
            let length = before.len() as u64;
            let (ledger, batch) = (LEDGER.to_owned(), BatchId::of_ledger(7));
            let intent = Intent { ledger, batch, is_done: false, length, bytes: lines(7).into_bytes() };
            self.open(LEDGER, Disk::default()).write_intent(&intent).unwrap();
        }
    }

    fn finish(file: &mut OnceFile, open: &[i64]) -> Result<Vec<i64>> {
        file.lock()?;
        let found = file.finish_intents(|batch| open.contains(&batch));
        file.unlock();
        found
    }

    #[test]
    fn whatever_part_of_a_batch_is_in_the_file_the_next_writer_adds_the_rest() {
        let (whole, before) = (lines(7), "{\"before\":1}\n");
        for cut in 0..=whole.len() {
            let bench = Bench::new();
            bench.interrupted(before, &whole[..cut]);
            let mut file = bench.open(LEDGER, Disk::default());
            assert_eq!(finish(&mut file, &[7]).unwrap(), [7]);
            assert_eq!(bench.text(), format!("{before}{whole}"), "{cut}");
            file.close().unwrap();
            assert!(bench.beside().is_empty());
        }
    }

    #[test]
    fn lines_of_other_programs_stay_where_they_are() {
        let whole = lines(7);
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', whole.as_bytes()).map(|at| at + 1).collect();
        for cut in [0, ends[0], ends[1]] {
            let bench = Bench::new();
            // The other line begins like one of the batch.
            let other = "{\"batch\":9}\n";
            bench.interrupted("", &format!("{}{other}", &whole[..cut]));
            let mut file = bench.open(LEDGER, Disk::default());
            assert_eq!(finish(&mut file, &[7]).unwrap(), [7]);
            assert_eq!(bench.text(), format!("{}{other}{}", &whole[..cut], &whole[cut..]));
            // A second crash at any point appends nothing twice.
            assert_eq!(finish(&mut file, &[7]).unwrap(), [7]);
            assert_eq!(bench.text(), format!("{}{other}{}", &whole[..cut], &whole[cut..]));
        }
    }

    /// Letters begin with the same text; a record of CSV is no JSON object, and may hold line breaks.
    #[test]
    fn records_of_another_writer_that_begin_like_those_of_the_batch_are_not_torn() {
        let (header, whole, other) = ("a,b,c\n", "same,\"x\ny\",1\nsame,\"x\nz\",2\n", "same,\"x\nother\",9\n");
        for cut in [0, whole.len() / 2] {
            let bench = Bench::new();
            std::fs::write(bench.path(), format!("{header}{}{other}", &whole[..cut])).unwrap();
            let form = RecordForm::Cells { delimiter: b',', cells: 3 };
            let mut file = bench.open(LEDGER, Disk::default()).with_form(form);
            let (length, batch) = (header.len() as u64, BatchId { run: 1, number: 1, piece: 0 });
            let (ledger, bytes) = (LEDGER.to_owned(), whole.as_bytes().to_vec());
            file.write_intent(&Intent { ledger, batch, is_done: false, length, bytes }).unwrap();
            let expected = format!("{header}{}{other}{}", &whole[..cut], &whole[cut..]);
            for _ in 0..2 {
                file.lock().unwrap();
                assert_eq!(file.last_batch().unwrap(), Some(batch));
                assert_eq!(bench.text(), expected, "{cut}");
                file.unlock();
            }
        }
    }

    #[test]
    fn the_next_writer_appends_an_epoch_of_which_the_file_has_nothing() {
        let bench = Bench::new();
        bench.interrupted("", "");
        let batch = BatchId { run: 1, number: 7, piece: 0 };
        let (ledger, bytes) = (LEDGER.to_owned(), lines(7).into_bytes());
        let intent = Intent { ledger, batch, is_done: false, length: 0, bytes };
        bench.open(LEDGER, Disk::default()).write_intent(&intent).unwrap();
        let mut other = bench.open(OTHER, Disk::default());
        other.lock().unwrap();
        assert_eq!(other.last_batch().unwrap(), None);
        other.append_piece(batch, b"", lines(1).as_bytes()).unwrap();
        other.unlock();
        let mut own = bench.open(LEDGER, Disk::default());
        own.lock().unwrap();
        assert_eq!(own.last_batch().unwrap(), Some(batch));
        assert_eq!(bench.text(), lines(7) + &lines(1));
    }

    #[test]
    fn what_cannot_be_finished_is_corrupt_and_stays_as_it_is() {
        let whole = lines(7);
        for (before, after) in [("", format!("{}{{\"other\":1}}\n", &whole[..20])), ("{\"a\":1}\n", String::new())] {
            let bench = Bench::new();
            bench.interrupted(before, &after);
            if after.is_empty() {
                std::fs::write(bench.path(), "").unwrap();
            }
            let (text, beside) = (bench.text(), bench.beside());
            let mut file = bench.open(LEDGER, Disk::default());
            assert_eq!(finish(&mut file, &[7]).unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!((bench.text(), bench.beside()), (text, beside));
        }
    }

    #[test]
    fn an_intent_with_any_changed_byte_is_damaged() {
        let bench = Bench::new();
        bench.interrupted("", "");
        let path = bench.open(LEDGER, Disk::default()).own_intent();
        let intact = std::fs::read(&path).unwrap();
        for at in 0..intact.len() {
            let mut damaged = intact.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let found = finish(&mut bench.open(LEDGER, Disk::default()), &[7]);
            // The number of bytes and the white space between the members mean nothing.
            if let Ok(finished) = &found {
                assert_eq!((finished.as_slice(), bench.text()), ([7].as_slice(), lines(7)), "byte {at}");
                std::fs::write(bench.path(), "").unwrap();
            } else {
                // Another digit is the format of another version.
                let is_format = intact[..at].ends_with(br#""evt_intent":"#);
                let expected = if is_format { ErrorKind::Config } else { ErrorKind::Corrupt };
                assert_eq!(found.unwrap_err().kind(), expected, "byte {at}");
                assert_eq!(bench.text(), "", "byte {at}");
            }
        }
    }

    #[test]
    fn an_intent_of_a_closed_batch_is_removed_and_one_of_another_ledger_is_finished_and_left() {
        let bench = Bench::new();
        bench.interrupted("", "");
        assert_eq!(finish(&mut bench.open(LEDGER, Disk::default()), &[]).unwrap(), [0; 0]);
        assert_eq!((bench.text(), bench.beside().len()), (String::new(), 0));

        bench.interrupted("", &lines(7)[..20]);
        let mut other = bench.open(OTHER, Disk::default());
        assert_eq!(finish(&mut other, &[7]).unwrap(), [0; 0]);
        assert_eq!((bench.text(), bench.beside().len()), (lines(7), 1));
        other.lock().unwrap();
        other.append(1, lines(1).as_bytes()).unwrap();
        other.close().unwrap();
        other.unlock();
        assert_eq!(finish(&mut bench.open(LEDGER, Disk::default()), &[7]).unwrap(), [7]);
        assert_eq!(bench.text(), lines(7) + &lines(1));
    }

    #[test]
    fn after_a_fault_of_the_disk_at_any_point_a_batch_is_in_the_file_once() {
        for after in 0.. {
            let bench = Bench::new();
            std::fs::write(bench.path(), "{\"before\":1}\n{\"torn\":").unwrap();
            let errno = rustix::io::Errno::NOSPC;
            let disk = Disk::failing(DiskFault { after, torn: 10, errno, is_lasting: true });
            let mut file = bench.open(LEDGER, disk.clone());
            let appended = file.lock().and_then(|()| file.append(1, lines(1).as_bytes()));
            // The ledger closes a batch that is appended, whatever becomes of its intent.
            let open: &[i64] = if appended.is_ok() { &[] } else { &[1] };
            let _ = appended.and_then(|()| file.close());
            file.unlock();
            let mut next = bench.open(LEDGER, Disk::default());
            if finish(&mut next, open).unwrap() != open {
                next.lock().unwrap();
                next.append(1, lines(1).as_bytes()).unwrap();
            }
            assert_eq!(bench.text(), format!("{{\"before\":1}}\n{}", lines(1)), "fault after {after} operations");
            if !disk.has_failed() {
                assert!(after > 5, "{after}");
                return;
            }
        }
    }
}
