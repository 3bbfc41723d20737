//! The client of a bucket: objects are read, written, listed and removed, with retries.

use super::address::S3Address;
use super::http::{FilePart, S3Answer, S3Body, S3Http, S3Request};
use super::{multipart, xml};
use crate::client::outage::{RetryError, RetryPolicy};
use crate::storage::disk::failed;
use crate::storage::{Objects, token};
use evt_core::error::{Error, Result};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests that are under way at once.
const THREADS: usize = 8;

/// Objects of a bucket below a prefix. Keys do not contain the prefix.
pub struct S3Bucket {
    http: S3Http,
    /// Its address.
    pub address: Arc<S3Address>,
    retries: RetryPolicy,
}

/// An object to be written, and the file that has its bytes.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The key.
    pub key: String,
    /// The file.
    pub path: PathBuf,
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Bucket({})", self.address)
    }
}

impl S3Bucket {
    /// Makes a client; sends nothing. Errors: exit status 2 for wrong timeouts, 78 if certificates cannot be read.
    pub fn try_new(address: S3Address) -> Result<Self> {
        let address = Arc::new(address);
        let http = S3Http::try_new(address.clone())?;
        let retries = address.location.retries()?.at_start();
        Ok(Self { http, address, retries })
    }

    fn try_get(&self, key: &str) -> Result<Option<Vec<u8>>, RetryError> {
        let answer = self.http.send(S3Request::new("GET", key))?;
        Ok((answer.status != 404).then_some(answer.body))
    }

    fn try_put(&self, key: &str, body: S3Body) -> Result<(), RetryError> {
        written(self.http.send(S3Request { body, ..S3Request::new("PUT", key) })?).map(drop)
    }

    /// Writes objects from files.
    pub fn upload(&self, uploads: &[Upload]) -> Result<()> {
        let mut small = vec![];
        for Upload { key, path } in uploads {
            let file = Arc::new(File::open(path).map_err(failed(path))?);
            let length = file.metadata().map_err(failed(path))?.len();
            let part = FilePart { file, start: 0, length };
            match multipart::is_large(length) {
                true => self.put_in_parts(key, &part)?,
                false => small.push((key, part)),
            }
        }
        self.each(&small, |(key, part)| self.try_put(key, S3Body::Part(part.clone()))).map(drop)
    }

    /// Writes an object in parts. The parts that a killed process uploaded remain until the bucket's rule removes
    /// incomplete uploads.
    fn put_in_parts(&self, key: &str, whole: &FilePart) -> Result<()> {
        let xml = self.post(key, "uploads", String::new(), String::new())?;
        let id = xml::text(&xml, "UploadId")
            .ok_or_else(|| Error::config("expected an UploadId, found none").at(self.name(key)))?;
        let numbered: Vec<(usize, FilePart)> = multipart::cut(whole).into_iter().enumerate().collect();
        let sent = self.each(&numbered, |(at, part)| {
            let query = vec![("partNumber", (at + 1).to_string()), ("uploadId", id.clone())];
            let body = S3Body::Part(part.clone());
            let answer = written(self.http.send(S3Request { query, body, ..S3Request::new("PUT", key) })?)?;
            answer.etag.ok_or_else(|| RetryError::from(Error::config("expected an ETag of the part, found none")))
        });
        let tags = match sent {
            Ok(tags) => tags,
            Err(error) => {
                // The error of the upload is the one to be reported.
                let query = vec![("uploadId", id)];
                _ = self.http.send(S3Request { query, ..S3Request::new("DELETE", key) });
                return Err(error);
            }
        };
        self.post(key, "uploadId", id, multipart::list(&tags)).map(drop)
    }

    /// Sends a request about an upload; returns the body of the answer.
    fn post(&self, key: &str, name: &'static str, value: String, body: String) -> Result<String> {
        let body = S3Body::Bytes(body.into_bytes().into());
        let mut is_repeated = false;
        self.retries.run(|| {
            let query = vec![(name, value.clone())];
            // Its answer may be lost.
            let was_repeated = std::mem::replace(&mut is_repeated, true);
            let sent = self.http.send(S3Request { query, body: body.clone(), ..S3Request::new("POST", key) })?;
            let S3Answer { status, body, .. } = sent;
            let text = String::from_utf8_lossy(&body).into_owned();
            match status {
                // An earlier attempt, whose answer was lost, has ended the upload.
                404 if was_repeated && name == "uploadId" => Ok(text),
                // The server of a slow request answers before it knows the outcome.
                200..300 if text.contains("<Error>") => {
                    Err(RetryError::Transient(xml::text(&text, "Code").unwrap_or_default()))
                }
                200..300 => Ok(text),
                status => {
                    Err(Error::config(format!("expected success, found status {status}")).at(self.name(key)).into())
                }
            }
        })
    }

    /// Returns the keys of a page, and the token of the next one.
    fn list_page(&self, start: &str, more: Option<(&'static str, String)>) -> Result<(Vec<String>, Option<String>)> {
        let mut query = vec![("list-type", "2".to_owned()), ("prefix", format!("{}{start}", self.address.prefix))];
        query.extend(more);
        let request = S3Request { key: None, query, ..S3Request::new("GET", "") };
        let answer = self.retries.run(|| self.http.send(request.clone()))?;
        let xml = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 || !xml.contains("ListBucketResult") {
            let message = format!("expected a list of objects, found status {}", answer.status);
            return Err(Error::config(message).at(self.address.to_string()));
        }
        let keys = xml::texts(&xml, "Key").into_iter();
        let keys = keys.filter_map(|key| key.strip_prefix(&self.address.prefix).map(str::to_owned)).collect();
        Ok((keys, xml::text(&xml, "NextContinuationToken").filter(|page| !page.is_empty())))
    }

    /// Makes a request for each item, several at once. Those that fail with a transient error are then repeated one
    /// after another.
    fn each<T: Sync, R: Send>(
        &self,
        items: &[T],
        request: impl Fn(&T) -> Result<R, RetryError> + Sync,
    ) -> Result<Vec<R>> {
        if let [item] = items {
            return self.retries.run(|| request(item)).map(|done| vec![done]);
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = vec![];
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(at) else { return done };
                done.push((at, request(item)));
            }
        };
        let mut done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS.min(items.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        done.sort_by_key(|(at, _)| *at);
        if done.len() != items.len() {
            return Err(Error::broken("a thread of requests"));
        }
        let again = |((_, outcome), item): ((usize, Result<R, RetryError>), &T)| match outcome {
            Err(RetryError::Transient(cause)) => {
                let mut first = Some(cause);
                self.retries
                    .run(|| first.take().map_or_else(|| request(item), |cause| Err(RetryError::Transient(cause))))
            }
            Err(RetryError::Permanent(error)) => Err(error),
            Ok(value) => Ok(value),
        };
        done.into_iter().zip(items).map(again).collect()
    }
}

impl Objects for S3Bucket {
    fn name(&self, key: &str) -> String {
        self.http.name(key)
    }

    fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        self.each(keys, |key| self.try_get(key))
    }

    fn range(&self, key: &str, at: Range<u64>) -> Result<Option<Vec<u8>>> {
        let length = at.end.saturating_sub(at.start);
        // A request has at least one byte.
        let headers = vec![("range", format!("bytes={}-{}", at.start, at.start + length.max(1) - 1))];
        let request = S3Request { headers, answer: length, ..S3Request::new("GET", key) };
        let S3Answer { status, mut body, .. } = self.retries.run(|| self.http.send(request.clone()))?;
        // A server may send a whole object if it has no byte behind the range.
        if status == 200 && (at.start > 0 || body.len() as u64 > length) {
            return Err(Error::config("expected a range of the object, found all of it").at(self.name(key)));
        }
        body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(match status {
            404 => None,
            // The range begins at the end of the object or behind it.
            416 => Some(vec![]),
            _ => Some(body),
        })
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let body = S3Body::Bytes(bytes.into());
        self.retries.run(|| self.try_put(key, body.clone()))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let body = S3Body::Bytes(bytes.into());
        self.retries.run(|| {
            let headers = vec![("if-none-match", "*".to_owned())];
            let answer = self.http.send(S3Request { headers, body: body.clone(), ..S3Request::new("PUT", key) })?;
            if answer.status != 412 {
                return written(answer).map(|_| true);
            }
            // The object may be that of an earlier attempt, whose answer was lost.
            Ok(self.try_get(key)?.is_some_and(|found| found == bytes))
        })
    }

    fn token(&self) -> Option<String> {
        Some(token())
    }

    fn list(&self, start: &str) -> Result<Vec<String>> {
        let (mut keys, mut page) = (vec![], None);
        loop {
            let found = self.list_page(start, page.map(|page| ("continuation-token", page)))?;
            keys.extend(found.0);
            page = found.1;
            if page.is_none() {
                return Ok(keys);
            }
        }
    }

    fn any(&self, start: &str) -> Result<Option<String>> {
        Ok(self.list_page(start, Some(("max-keys", "1".to_owned())))?.0.into_iter().next())
    }

    fn delete(&self, keys: &[String]) -> Result<()> {
        self.each(keys, |key| self.http.send(S3Request::new("DELETE", key)).map(drop)).map(drop)
    }
}

/// Checks that an object was written.
fn written(answer: S3Answer) -> Result<S3Answer, RetryError> {
    match answer.status {
        200..300 => Ok(answer),
        status => Err(Error::config(format!("expected success, found status {status}")).into()),
    }
}
