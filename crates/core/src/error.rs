//! The one error type: what ends a tool, where, and why.
//!
//! A record's fault is data, not an [`Error`]: it becomes a dead letter ([`crate::kind::dead`]) and the tool continues.
//! An `Error` ends the run; its [`ErrorKind`] determines the exit status (evt(7), EXIT STATUS).

use std::fmt;

/// The result of an operation that can end a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run ends; each kind has one exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The verdict is negative: rejects, a discrepancy, windows that stay open (1).
    Verdict,
    /// The command line is wrong (2).
    Usage,
    /// Input is torn or corrupt (65).
    Corrupt,
    /// A service is unavailable after retries (69).
    Unavailable,
    /// An invariant of evt is broken (70).
    Broken,
    /// Reading or writing failed (74).
    Io,
    /// Another run has taken over: it has a newer epoch, or the partitions of a group (75).
    Fenced,
    /// Another process holds a lock, or is changing what this run needs (75).
    Busy,
    /// The stages of a pipe have not completed or committed an epoch together (75).
    Incomplete,
    /// Another run is writing an output that allows one writer (75).
    InUse,
    /// A configuration, metric or schema file is wrong (78).
    Config,
    /// The reader of the output has left: end by SIGPIPE without a message.
    ReaderGone,
}

impl ErrorKind {
    /// Returns the exit status; `ReaderGone` has the status that a shell shows for SIGPIPE, if the signal cannot be
    /// raised.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Verdict => 1,
            Self::Usage => 2,
            Self::Corrupt => 65,
            Self::Unavailable => 69,
            Self::Broken => 70,
            Self::Io => 74,
            Self::Fenced | Self::Busy | Self::Incomplete | Self::InUse => 75,
            Self::Config => 78,
            Self::ReaderGone => 141,
        }
    }
}

/// An error that ends a run: one line, lower case, `position: message: cause`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    position: Option<String>,
    message: String,
    cause: Option<String>,
    rows: Option<UnreadableRows>,
}

/// Rows of a store that cannot be read, although those after them can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadableRows {
    /// Their number.
    pub count: u64,
    /// The origin of the only one, if it can be read.
    pub origin: Option<String>,
    /// Its partition.
    pub partition: Option<String>,
    /// Its offset.
    pub offset: Option<i64>,
    /// Its event time (µs).
    pub time: Option<i64>,
}

impl Error {
    /// Creates an error of `kind` with a message.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, position: None, message: message.into(), cause: None, rows: None }))
    }

    /// Creates an error: the command line is wrong.
    #[cold]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Creates an error: a configuration, metric or schema file is wrong.
    #[cold]
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Creates an error: input is torn or corrupt.
    #[cold]
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Creates an error: a service is unavailable after retries.
    #[cold]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Creates an error: another run has taken over.
    #[cold]
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fenced, message)
    }

    /// Creates an error: another process holds a lock, or is changing what this run needs.
    #[cold]
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Busy, message)
    }

    /// Creates an error: the stages of a pipe have not completed or committed an epoch together.
    #[cold]
    pub fn incomplete(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Incomplete, message)
    }

    /// Creates an error: an invariant of evt is broken.
    #[cold]
    pub fn broken(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Broken, message)
    }

    /// Creates an error: reading or writing failed.
    #[cold]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Io, message)
    }

    /// Creates an error: reading or writing `what` failed. A broken pipe becomes [`ErrorKind::ReaderGone`].
    #[cold]
    pub fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        let kind = if error.kind() == std::io::ErrorKind::BrokenPipe { ErrorKind::ReaderGone } else { ErrorKind::Io };
        Self::new(kind, what).because(io_cause(error))
    }

    /// Creates an error: a file of the configuration cannot be read.
    #[cold]
    pub fn config_file(what: impl Into<String>, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Config, what).because(io_cause(error))
    }

    /// Adds the position to the error (`FILE:LINE`, `frame 12 (byte 40960)`), before an inner position.
    #[cold]
    pub fn at(mut self, position: impl Into<String>) -> Self {
        let outer = position.into();
        if self.0.position.as_ref().unwrap_or(&self.0.message).starts_with(&outer) {
            // The position or message already starts with it.
            return self;
        }
        let rest = self.0.message.strip_prefix(&outer);
        if self.0.position.is_none() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
            // The message already names the position.
            return self;
        }
        self.0.position = Some(match self.0.position.take() {
            Some(inner) => format!("{outer}: {inner}"),
            None => outer,
        });
        self
    }

    /// Adds the cause to the error.
    #[cold]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.cause = Some(one_line(&cause.to_string()));
        self
    }

    /// Adds a library's message about bytes that it cannot decode, up to the end of its sentence: debug output of
    /// values that some libraries append is cut.
    #[cold]
    pub fn because_library(self, cause: impl fmt::Display) -> Self {
        let cause = cause.to_string();
        let mut text = cause.as_str();
        while let Some(rest) = LIBRARY_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            text = rest;
        }
        let sentence = sentence(text);
        if sentence.is_empty() { self } else { self.because(sentence) }
    }

    /// Names the rows of a store that are its cause: a reader may leave them out and continue.
    #[cold]
    #[must_use]
    pub fn of_rows(mut self, rows: UnreadableRows) -> Self {
        self.0.rows = Some(rows);
        self
    }

    /// Returns the rows of a store that are its cause, if the rows after them can be read.
    pub fn rows(&self) -> Option<&UnreadableRows> {
        self.0.rows.as_ref()
    }

    /// Returns the position, if known.
    pub fn position(&self) -> Option<&str> {
        self.0.position.as_deref()
    }

    /// Returns the cause, if it has one.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

/// Returns the operating system's message without Rust's "(os error 2)".
fn io_cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// Prefixes that libraries put before each message, without information.
const LIBRARY_PREFIXES: [&str; 3] = ["Parquet argument error: ", "Parquet error: ", "External: "];

/// Returns the text before the first `Name { … }` or `Name(…)`.
fn sentence(text: &str) -> &str {
    let bytes = text.as_bytes();
    let value = (0..bytes.len()).find(|at| match bytes[*at] {
        b'{' => true,
        b'(' => *at > 0 && bytes[*at - 1].is_ascii_alphanumeric(),
        _ => false,
    });
    let Some(value) = value else { return text };
    let before = text[..value].trim_end();
    let name = before.rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| at + 1);
    before[..name].trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ':' | '.' | ','))
}

/// Makes one clean line of a library's message, which may contain newlines and terminal escapes.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "?")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = &self.0.position {
            write!(f, "{position}: ")?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// evt's own batches are well-formed by construction, so an arrow error about one is a bug.
impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::broken("arrow").because(error)
    }
}

thread_local! {
    static GUARDED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Calls `decode`, which reads outside bytes with a library that may panic on them: a panic becomes the error "corrupt
/// input".
///
/// Do not use the data of `decode` after an error. The panic prints nothing: this thread bypasses the panic hook while
/// `decode` runs; other threads keep it.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                print(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode));
    GUARDED.set(outer);
    done.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Error::corrupt("it makes its decoder fail").because(text.unwrap_or_else(|| "a panic".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_position_message_and_cause() {
        let e = Error::corrupt("torn stream").because("no\n  end frame").at("frame 3").at("in.arrows");
        assert_eq!(e.to_string(), "in.arrows: frame 3: torn stream: no end frame");
    }

    #[test]
    fn what_a_library_says_ends_where_its_values_begin() {
        let message = |cause: &str| Error::corrupt("header").because_library(cause).to_string();
        assert_eq!(message("No root: Unaligned { position: 29, trace: Trace([]) }"), "header: No root");
        assert_eq!(message("cannot decode the schema, InvalidByte(4, 61)"), "header: cannot decode the schema");
        assert_eq!(message("Invalid data. Field { \"é\": Id(16) } not found"), "header: Invalid data");
        assert_eq!(message("size differs (4 vs 5)"), "header: size differs (4 vs 5)");
        assert_eq!(message("Parquet argument error: Parquet error: a page"), "header: a page");
        assert_eq!(message("Unaligned { position: 29 }"), "header");
    }

    #[test]
    fn a_place_is_said_once() {
        let e = Error::config("sqlite:m.db: cannot write").at("sqlite:m.db");
        assert_eq!(e.to_string(), "sqlite:m.db: cannot write");
        assert_eq!(Error::config("no").at("redis://h/0").at("redis://h/0").to_string(), "redis://h/0: no");
    }

    #[test]
    fn a_broken_pipe_is_a_reader_gone() {
        let e = Error::io("stdout", &std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(e.kind(), ErrorKind::ReaderGone);
    }
}
