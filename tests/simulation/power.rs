//! What a disk has after a power failure: the bytes of files and the entries of directories that were synced, and of
//! the others nothing, or what a seed decides.

use evt_core::generate::random::Random;
use evt_run::storage::disk::SyncObserver;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What survives a power failure of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// A part: of each entry of a directory either the old or the new one; of a file that grew, its beginning, or
    /// zeros.
    PartlyKept,
}

/// The number of a file or a directory.
type Inode = u64;
type Entries = BTreeMap<OsString, Inode>;

/// What is durable of a directory and everything in it.
#[derive(Debug)]
pub struct DurableTree {
    root: PathBuf,
    /// Files whose names begin so are always durable: another library syncs them.
    exempt: &'static str,
    files: BTreeMap<Inode, DurableFile>,
    directories: BTreeMap<Inode, Entries>,
    /// Directories that had a name, synced themselves or not.
    named: BTreeSet<Inode>,
}

#[derive(Debug)]
struct DurableFile {
    bytes: Vec<u8>,
    /// Open, so that no other file gets its number.
    _file: File,
}

/// The files and directories that processes see.
#[derive(Debug, Default)]
struct SeenTree {
    files: BTreeMap<Inode, PathBuf>,
    directories: BTreeMap<Inode, Entries>,
}

fn entries(directory: &Path) -> Vec<(OsString, PathBuf, fs::Metadata)> {
    let listing = fs::read_dir(directory).expect("a directory");
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        (entry.file_name(), entry.path(), entry.metadata().expect("an entry"))
    };
    listing.map(entry).collect()
}

fn number(path: &Path) -> Inode {
    fs::metadata(path).expect("a file").ino()
}

impl SeenTree {
    fn add(&mut self, directory: &Path) {
        let mut found = Entries::new();
        for (name, path, metadata) in entries(directory) {
            found.insert(name, metadata.ino());
            match metadata.is_dir() {
                true => self.add(&path),
                false => drop(self.files.insert(metadata.ino(), path)),
            }
        }
        self.directories.insert(number(directory), found);
    }

    fn of(root: &Path) -> Self {
        let mut seen = Self::default();
        seen.add(root);
        seen
    }
}

impl DurableTree {
    /// Begins with everything in the directory `root`, which exists, durable.
    pub fn new(root: &Path, exempt: &'static str) -> Self {
        let (root, files, directories) = (root.to_owned(), BTreeMap::new(), BTreeMap::new());
        let mut durable = Self { root, exempt, files, directories, named: BTreeSet::new() };
        durable.sync_all();
        durable
    }

    fn sync_all(&mut self) {
        let seen = SeenTree::of(&self.root);
        for path in seen.files.values() {
            self.sync(&File::open(path).expect("a file"));
        }
        self.named.extend(seen.directories.keys());
        self.directories.extend(seen.directories);
    }

    fn sync(&mut self, file: &File) {
        let metadata = file.metadata().expect("an open file");
        // A name would be that of another file if this one was renamed meanwhile.
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
        if metadata.is_dir() {
            let entries = entries(&path);
            let directories = entries.iter().filter(|(_, _, metadata)| metadata.is_dir());
            self.named.extend(directories.map(|(_, _, metadata)| metadata.ino()));
            let entries = entries.into_iter().map(|(name, _, metadata)| (name, metadata.ino()));
            self.directories.insert(metadata.ino(), entries.collect());
            self.forget();
        } else {
            let file = File::open(&path).expect("an open file");
            let bytes = fs::read(&path).expect("an open file");
            self.files.insert(metadata.ino(), DurableFile { bytes, _file: file });
        }
    }

    /// Forgets files that have neither a durable name nor one that processes see.
    fn forget(&mut self) {
        let named: BTreeSet<Inode> = self.directories.values().flat_map(|entries| entries.values().copied()).collect();
        self.files.retain(|inode, file| {
            named.contains(inode) || file._file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
        });
    }

    /// Fails the power: the directory has what survives, and everything in it is durable.
    pub fn fail_power(&mut self, unsynced: Unsynced, random: &mut Random) {
        let seen = SeenTree::of(&self.root);
        let mut survivors = Survivors { durable: self, seen: &seen, unsynced, random, written: BTreeMap::new() };
        let aside = survivors.durable.root.with_added_extension("after");
        fs::create_dir(&aside).expect("a directory");
        survivors.write_directory(number(&survivors.durable.root), &aside);
        let root = self.root.clone();
        fs::remove_dir_all(&root).expect("the directory before");
        fs::rename(&aside, &root).expect("the directory after");
        *self = Self::new(&root, self.exempt);
    }
}

impl SyncObserver for DurableTree {
    fn synced(&mut self, file: &File) {
        self.sync(file);
    }

    fn synced_all(&mut self, _directory: &File) {
        self.sync_all();
    }
}

/// Writes what survives.
struct Survivors<'a> {
    durable: &'a DurableTree,
    seen: &'a SeenTree,
    unsynced: Unsynced,
    random: &'a mut Random,
    /// Where each file was written first; other names are links to it.
    written: BTreeMap<Inode, PathBuf>,
}

impl Survivors<'_> {
    fn write_directory(&mut self, inode: Inode, to: &Path) {
        let none = Entries::new();
        let before = self.durable.directories.get(&inode).unwrap_or(&none);
        let now = self.seen.directories.get(&inode).unwrap_or(&none);
        let names: BTreeSet<&OsString> = before.keys().chain(now.keys()).collect();
        for name in names {
            let is_exempt = name.as_encoded_bytes().starts_with(self.durable.exempt.as_bytes());
            let keeps_new = is_exempt || self.unsynced == Unsynced::PartlyKept && self.random.below(2) == 0;
            let Some(inode) = (if keeps_new { now.get(name) } else { before.get(name) }) else { continue };
            self.write(*inode, &to.join(name), is_exempt);
        }
    }

    fn write(&mut self, inode: Inode, to: &Path, is_exempt: bool) {
        let is_directory = self.durable.named.contains(&inode) || self.seen.directories.contains_key(&inode);
        if is_directory {
            // A directory that was renamed may survive under both names; one system call has one effect.
            if self.written.insert(inode, to.to_owned()).is_none() {
                fs::create_dir(to).expect("a directory");
                self.write_directory(inode, to);
            }
            return;
        }
        if let Some(first) = self.written.get(&inode) {
            return fs::hard_link(first, to).expect("a link");
        }
        fs::write(to, self.bytes(inode, is_exempt)).expect("a file");
        self.written.insert(inode, to.to_owned());
    }

    fn bytes(&mut self, inode: Inode, is_exempt: bool) -> Vec<u8> {
        let durable = self.durable.files.get(&inode).map_or(&[][..], |file| &file.bytes);
        let Some(now) = self.seen.files.get(&inode).map(|path| fs::read(path).expect("a file")) else {
            return durable.to_vec();
        };
        if is_exempt {
            return now;
        }
        if self.unsynced == Unsynced::Lost {
            return durable.to_vec();
        }
        let grown = now.len().saturating_sub(durable.len()) as u64;
        match self.random.below(4) {
            0 => durable.to_vec(),
            1 => now,
            _ if !now.starts_with(durable) => durable.to_vec(),
            kind => {
                let kept = durable.len() + self.random.below(grown + 1) as usize;
                let zeros = if kind == 3 { now.len() - kept } else { 0 };
                [&now[..kept], &vec![0; zeros]].concat()
            }
        }
    }
}

/// The names and bytes in a directory.
fn found(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = entries(dir)
        .into_iter()
        .map(|(name, path, metadata)| {
            let bytes = if metadata.is_dir() { vec![] } else { fs::read(path).expect("a file") };
            (name.into_string().expect("a name"), bytes)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_file_survives_with_its_synced_bytes_if_its_name_was_synced() {
    let base = tempfile::tempdir().expect("a directory");
    let root = base.path().join("root");
    fs::create_dir(&root).expect("a directory");
    fs::write(root.join("input"), "old").expect("a file");
    let mut tree = DurableTree::new(&root, "m.db");
    for (name, bytes) in [("both", "1234"), ("bytes", "1234"), ("name", "1234"), ("m.db", "1234")] {
        fs::write(root.join(name), bytes).expect("a file");
    }
    tree.synced(&File::open(root.join("both")).expect("a file"));
    tree.synced(&File::open(root.join("bytes")).expect("a file"));
    fs::rename(root.join("bytes"), root.join("renamed")).expect("renamed");
    tree.synced(&File::open(&root).expect("a directory"));
    fs::rename(root.join("renamed"), root.join("again")).expect("renamed");
    fs::write(root.join("both"), "123456").expect("a file");
    fs::write(root.join("late"), "1").expect("a file");
    fs::remove_file(root.join("input")).expect("removed");
    tree.fail_power(Unsynced::Lost, &mut Random::at(1, 0));
    let expected = [("both", "1234"), ("input", "old"), ("m.db", "1234"), ("name", ""), ("renamed", "1234")];
    let expected = expected.map(|(name, bytes)| (name.to_owned(), bytes.as_bytes().to_vec()));
    assert_eq!(found(&root)[..], [&expected[..]].concat());
}
