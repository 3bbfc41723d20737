//! Storage for state that does not fit into memory: files that are written once, read in parts, and removed with their
//! last reference.

use crate::error::{Error, Result};
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::ops::Range;
use std::rc::{Rc, Weak};

/// The size of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Keys in memory, and keys in files when these were last read.
    pub keys: u64,
    /// Approximate bytes in memory.
    pub memory: u64,
    /// Bytes in files.
    pub disk: u64,
    /// Bytes written to files so far.
    pub written: u64,
}

/// The bound of the state in memory.
#[derive(Debug)]
pub struct MemoryBound {
    /// Approximate bytes of state in memory.
    pub bytes: usize,
    /// Takes the rest.
    pub storage: Box<dyn StateStorage>,
}

/// Makes files for state.
pub trait StateStorage: Debug {
    /// Begins a file. Errors: exit status 74.
    fn create(&mut self) -> Result<Box<dyn NewStateFile>>;

    /// Returns the bytes that were written to all files.
    fn written(&self) -> u64;

    /// Opens a file of a restored state by its name. Errors: exit status 65 if there is none.
    fn open(&mut self, name: &str) -> Result<Rc<dyn StateFile>>;
}

/// A file that is being written.
pub trait NewStateFile {
    /// Appends bytes. Errors: exit status 74.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Ends the file. Errors: exit status 74.
    fn finish(self: Box<Self>) -> Result<Rc<dyn StateFile>>;
}

/// A file that is never changed. It is removed when nothing refers to it.
pub trait StateFile: Debug {
    /// Returns its name.
    fn name(&self) -> &str;

    /// Returns its length.
    fn length(&self) -> u64;

    /// Reads bytes. Errors: exit status 74.
    fn read(&self, at: Range<u64>) -> Result<Vec<u8>>;
}

/// Files in memory, for tests and simulations. Clones share their files.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    files: Rc<RefCell<Vec<Weak<MemoryFile>>>>,
    written: Rc<Cell<u64>>,
}

#[derive(Debug)]
struct MemoryFile {
    name: String,
    bytes: Vec<u8>,
}

/// A file in memory that is being written.
struct NewMemoryFile {
    file: MemoryFile,
    storage: MemoryStorage,
}

impl MemoryStorage {
    /// Returns how many files were written, and to how many of them something refers.
    pub fn files(&self) -> (usize, usize) {
        let files = self.files.borrow();
        (files.len(), files.iter().filter(|file| file.strong_count() > 0).count())
    }
}

impl StateStorage for MemoryStorage {
    fn create(&mut self) -> Result<Box<dyn NewStateFile>> {
        let name = self.files.borrow().len().to_string();
        Ok(Box::new(NewMemoryFile { file: MemoryFile { name, bytes: vec![] }, storage: self.clone() }))
    }

    fn written(&self) -> u64 {
        self.written.get()
    }

    fn open(&mut self, name: &str) -> Result<Rc<dyn StateFile>> {
        let found = self.files.borrow().iter().filter_map(Weak::upgrade).find(|file| file.name == name);
        found
            .map(|file| file as Rc<dyn StateFile>)
            .ok_or_else(|| Error::corrupt(format!("expected the file {name}, found none")))
    }
}

impl NewStateFile for NewMemoryFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Rc<dyn StateFile>> {
        let file = Rc::new(self.file);
        self.storage.written.set(self.storage.written.get() + file.length());
        self.storage.files.borrow_mut().push(Rc::downgrade(&file));
        Ok(file)
    }
}

impl StateFile for MemoryFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, at: Range<u64>) -> Result<Vec<u8>> {
        let found = self.bytes.get(at.start as usize..at.end as usize);
        found
            .map(<[u8]>::to_vec)
            .ok_or_else(|| Error::corrupt("expected more bytes of state, found the end of the file"))
    }
}
