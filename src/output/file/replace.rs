//! Whether a file that exists is replaced, and what became of it.

use evt_store::Notice;

/// Whether a file that exists is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// `--overwrite`.
    On,
    /// Neither is given: a file that has rows is left as it is.
    Off,
    /// Neither is given, and the schema of a pipe tells whether the run continues earlier ones.
    Undecided,
    /// `--append`, or the run continues earlier ones: text is appended to.
    Append,
    /// `--overwrite` does not apply to the output: it would replace another one.
    Unsupported,
}

impl Overwrite {
    /// Whether a file is replaced.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// The result of a file.
#[derive(Default)]
pub struct Ended {
    /// A remark for the summary: `appended`, `new`, `replaced` or `not replaced`.
    pub remark: Option<String>,
    /// A message that is printed even without a summary.
    pub notice: Option<Notice>,
}
