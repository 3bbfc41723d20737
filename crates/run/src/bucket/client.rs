//! The client of a bucket: objects are read, written, listed and removed, with retries.

use super::address::BucketAddress;
use super::cloud::store::CloudStore;
use super::http::{BucketHttp, BucketServer, RequestFault};
use crate::client::outage::{RetryError, RetryPolicy};
use crate::storage::{Objects, token};
use evt_core::error::{Error, Result};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectStoreExt, PutMode, PutPayload};
use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Requests that are under way at once.
const THREADS: usize = 8;

/// Objects of a bucket below a prefix. Keys do not contain the prefix.
pub struct Bucket {
    pub(super) store: Arc<dyn CloudStore>,
    /// Its address.
    pub address: Arc<BucketAddress>,
    pub(super) retries: RetryPolicy,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// What another object under the same key has not (`ETag`).
    pub version: Option<String>,
    /// When it was written (µs since 1970).
    pub changed: i64,
}

impl ObjectEntry {
    fn of(key: String, meta: object_store::ObjectMeta) -> Self {
        Self { key, size: meta.size, version: meta.e_tag, changed: meta.last_modified.timestamp_micros() }
    }
}

/// One page of a list.
struct Page {
    entries: Vec<ObjectEntry>,
    next: Option<String>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.address)
    }
}

impl Bucket {
    /// Makes a client; sends nothing. Errors: exit status 2 for wrong timeouts, 78 if certificates or credentials
    /// cannot be read.
    pub fn try_new(address: BucketAddress) -> Result<Self> {
        let address = Arc::new(address);
        let http = BucketHttp::try_new(BucketServer {
            server: address.server.clone(),
            location: address.location.clone(),
            credentials: address.cloud.credentials(),
            fetches_credentials: address.cloud.fetches_credentials(),
        })?;
        let failed = |error: StoreError| Error::config("credentials").because(error).at(address.to_string());
        let store = address.cloud.connect(&address.bucket, http).map_err(failed)?;
        let retries = address.location.retries()?.at_start();
        Ok(Self { store, address, retries })
    }

    /// Returns the path of an object for object_store. Errors: exit status 2 for a key that it does not accept.
    pub(super) fn path(&self, key: &str) -> Result<Path, RetryError> {
        let path = Path::parse(format!("{}{key}", self.address.prefix));
        path.map_err(|error| Error::usage(self.name(key)).because(error).into())
    }

    /// Returns what evt makes of an error of object_store about an object.
    pub(super) fn failed(&self, key: &str, error: &StoreError) -> RetryError {
        RequestFault::taken_from(error).at(|| self.name(key))
    }

    fn try_get(&self, key: &str, options: GetOptions) -> Result<Option<Vec<u8>>, RetryError> {
        let path = self.path(key)?;
        let got = block_on(async { self.store.get_opts(&path, options).await?.bytes().await });
        match got {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(StoreError::NotFound { .. } | StoreError::Precondition { .. }) => Ok(None),
            Err(error) if RequestFault::is_out_of_range(&error) => Ok(Some(vec![])),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    /// Writes an object; returns false if there is one and it may not be replaced.
    pub(super) fn try_put(&self, key: &str, bytes: bytes::Bytes, mode: PutMode) -> Result<bool, RetryError> {
        let path = self.path(key)?;
        match block_on(self.store.put_opts(&path, PutPayload::from(bytes), mode.into())) {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    fn try_delete(&self, key: &str) -> Result<(), RetryError> {
        let path = self.path(key)?;
        match block_on(self.store.delete(&path)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(key, &error)),
        }
    }

    /// Returns a page of the keys that begin with `start`.
    fn list_page(&self, start: &str, options: &PaginatedListOptions) -> Result<Page> {
        let prefix = format!("{}{start}", self.address.prefix);
        let found = self.retries.run(|| {
            let options = options.clone();
            let listed =
                self.store.list_paginated(Some(&prefix).filter(|prefix| !prefix.is_empty()).map(|x| &**x), options);
            block_on(listed).map_err(|error| RequestFault::taken_from(&error).at(|| self.address.to_string()))
        })?;
        let entry = |meta: object_store::ObjectMeta| {
            let key = meta.location.as_ref().strip_prefix(&self.address.prefix)?.to_owned();
            // A key with a slash at its end is no object: some programs make one for a directory.
            key.starts_with(start).then(|| ObjectEntry::of(key, meta))
        };
        let entries = found.result.objects.into_iter().filter_map(entry).collect();
        Ok(Page { entries, next: found.page_token.filter(|page| !page.is_empty()) })
    }

    /// Returns the objects whose keys begin with `start`, in the order of the bytes of their keys.
    pub fn entries(&self, start: &str) -> Result<Vec<ObjectEntry>> {
        self.entries_behind(start, "")
    }

    /// Returns those of them whose keys are behind `last`, without listing those before.
    pub fn entries_behind(&self, start: &str, last: &str) -> Result<Vec<ObjectEntry>> {
        let offset = (!last.is_empty()).then(|| format!("{}{last}", self.address.prefix));
        let mut options = PaginatedListOptions { offset, ..PaginatedListOptions::default() };
        let mut entries = vec![];
        loop {
            let found = self.list_page(start, &options)?;
            entries.extend(found.entries);
            options.page_token = found.next;
            if options.page_token.is_none() {
                // Not every server keeps the order of bytes.
                entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
                return Ok(entries);
            }
        }
    }

    /// Returns an object without its bytes; `None` if there is none.
    pub fn head(&self, key: &str) -> Result<Option<ObjectEntry>> {
        self.retries.run(|| {
            let path = self.path(key)?;
            match block_on(self.store.head(&path)) {
                Ok(meta) => Ok(Some(ObjectEntry::of(key.to_owned(), meta))),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(self.failed(key, &error)),
            }
        })
    }

    /// Reads a range of an object that a list had. Errors: exit status 65 if it was replaced or removed since.
    pub fn read(&self, entry: &ObjectEntry, at: Range<u64>) -> Result<Vec<u8>> {
        self.retries.run(|| self.try_read(entry, &at))
    }

    /// Reads ranges of an object like [`read`](Self::read), several at once.
    pub fn read_ranges(&self, entry: &ObjectEntry, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        self.each(ranges, THREADS, |at| self.try_read(entry, at))
    }

    fn try_read(&self, entry: &ObjectEntry, at: &Range<u64>) -> Result<Vec<u8>, RetryError> {
        let replaced = || Error::corrupt("replaced or removed while it was read").at(self.name(&entry.key));
        let (if_match, range) = (entry.version.clone(), Some(GetRange::Bounded(at.clone())));
        match self.try_get(&entry.key, GetOptions { if_match, range, ..GetOptions::default() })? {
            Some(bytes) if bytes.len() as u64 == at.end - at.start => Ok(bytes),
            _ => Err(replaced().into()),
        }
    }

    /// Makes a request for each item, several at once. After a transient failure no further one begins, and those that
    /// are left are repeated as one request is: an outage has one limit and one message, however many it concerns.
    pub(super) fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        threads: usize,
        request: impl Fn(&T) -> Result<R, RetryError> + Sync,
    ) -> Result<Vec<R>> {
        let mut done: Vec<Option<R>> = items.iter().map(|_| None).collect();
        let mut fault = None;
        loop {
            let is_whole = self.retries.run(|| {
                // The pause before the next attempt.
                if let Some(cause) = fault.take() {
                    return Err(RetryError::Transient(cause));
                }
                let left = Vec::from_iter((0..items.len()).filter(|at| done[*at].is_none()));
                let found = at_once(&left, threads, |at| request(&items[at]));
                let (mut has_progress, mut failed) = (false, None);
                for (at, outcome) in found {
                    match outcome {
                        Ok(value) => (done[at], has_progress) = (Some(value), true),
                        Err(RetryError::Permanent(error)) => return Err(error.into()),
                        Err(RetryError::Transient(cause)) => failed = Some(cause),
                    }
                }
                match failed {
                    None => Ok(true),
                    // The server has answered, so that the time of an outage begins anew.
                    Some(cause) if has_progress => {
                        fault = Some(cause);
                        Ok(false)
                    }
                    Some(cause) => Err(RetryError::Transient(cause)),
                }
            })?;
            if is_whole {
                let whole: Option<Vec<R>> = done.into_iter().collect();
                return whole.ok_or_else(|| Error::broken("a thread of requests"));
            }
        }
    }
}

/// Makes requests by the numbers of their items until one fails; returns what became of those that were made.
fn at_once<R: Send>(
    items: &[usize],
    threads: usize,
    request: impl Fn(usize) -> Result<R, RetryError> + Sync,
) -> Vec<(usize, Result<R, RetryError>)> {
    if let [item] = items {
        return vec![(*item, request(*item))];
    }
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut done = vec![];
        while !has_failed.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let outcome = request(*item);
            has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
            done.push((*item, outcome));
        }
        done
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(items.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

impl Objects for Bucket {
    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.address)
    }

    fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        self.each(keys, THREADS, |key| self.try_get(key, GetOptions::default()))
    }

    fn range(&self, key: &str, at: Range<u64>) -> Result<Option<Vec<u8>>> {
        let length = at.end.saturating_sub(at.start);
        // A request has at least one byte.
        let range = GetRange::Bounded(at.start..at.start + length.max(1));
        let found = self
            .retries
            .run(|| self.try_get(key, GetOptions { range: Some(range.clone()), ..GetOptions::default() }))?;
        Ok(found.map(|mut bytes| {
            bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            bytes
        }))
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        self.retries.run(|| self.try_put(key, bytes.clone(), PutMode::Overwrite)).map(drop)
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let sent = bytes::Bytes::copy_from_slice(bytes);
        let found = || Ok::<_, RetryError>(self.try_get(key, GetOptions::default())?.map(|found| found == bytes));
        let mut is_repeated = false;
        self.retries.run(|| {
            // The object may be that of an earlier attempt, whose answer was lost. A server that refuses another one
            // may close the connection before it has read the bytes, so that the answer is lost again.
            if std::mem::replace(&mut is_repeated, true)
                && let Some(is_own) = found()?
            {
                return Ok(is_own);
            }
            Ok(self.try_put(key, sent.clone(), PutMode::Create)? || found()?.unwrap_or(false))
        })
    }

    fn token(&self) -> Option<String> {
        Some(token())
    }

    fn list(&self, start: &str) -> Result<Vec<String>> {
        Ok(self.entries(start)?.into_iter().map(|entry| entry.key).collect())
    }

    fn any(&self, start: &str) -> Result<Option<String>> {
        let first = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        Ok(self.list_page(start, &first)?.entries.into_iter().next().map(|entry| entry.key))
    }

    fn delete(&self, keys: &[String]) -> Result<()> {
        self.each(keys, THREADS, |key| self.try_delete(key)).map(drop)
    }
}

/// Wakes the thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread. Requests block it; a future waits only for another thread that fetches credentials.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
