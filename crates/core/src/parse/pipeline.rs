//! The text of a pipeline: stages with their words, as a shell reads them.
//!
//! ```text
//! evt-ingest events.jsonl |          a newline after | or \ continues the line
//!   evt-window -m "$METRICS" \       # a comment ends with its line
//!   | evt-sink --to 'sqlite:m.db'
//! ```
//!
//! A text that this parser accepts means the same in a shell, with four exceptions: the value of a variable is one
//! word, whatever it holds; an unset variable is an error; `?` and `{a,b}` stand for themselves; a line may end with
//! CR LF. What would mean
//! something else in a shell (`*`, `>`, `&`, …) is refused with its place unless it is quoted.

use crate::error::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::str::Chars;

/// A stage of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageText {
    /// Its words, at least one: the name of the tool, then the arguments.
    pub words: Vec<OsString>,
    /// Where it begins.
    pub place: TextPlace,
}

/// A place in the text; lines and columns count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPlace {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl TextPlace {
    /// Returns an error about this place. Errors about a file are of the configuration (`kind`).
    #[cold]
    pub fn refused(self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message).at(format!("line {}, column {}", self.line, self.column))
    }
}

/// What a text is read with.
#[derive(Clone, Copy)]
pub struct PipelineReading<'a> {
    /// Returns the value of a variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The kind of a fault of the text.
    pub fault: ErrorKind,
}

/// Reads the stages of a pipeline, at least one. Errors: the kind of `reading` with the place of a character that is
/// refused, exit status 78 for a variable that is not set.
pub fn parse(text: &str, reading: PipelineReading<'_>) -> Result<Vec<StageText>> {
    let place = TextPlace { line: 1, column: 1 };
    PipelineParser { rest: text.chars().peekable(), place, reading, words: vec![], word: None, stages: vec![] }.stages()
}

/// Returns what a shell would do with a character outside of quotes; `None` if it stands for itself.
fn meaning(c: char) -> Option<&'static str> {
    Some(match c {
        '&' => "a shell would run the command in the background",
        ';' => "a shell would begin another command; one pipeline is expected",
        '*' | '[' => "a shell would replace the pattern by names of files",
        '~' => "a shell would replace it by a home directory; $HOME is one",
        '(' | ')' => "a shell would group commands",
        '<' => "a shell would redirect standard input; name an input of the first stage",
        '>' => "a shell would redirect standard output; --to FILE names an output",
        '`' => "a shell would run a command",
        _ => return None,
    })
}

struct PipelineParser<'a> {
    rest: Peekable<Chars<'a>>,
    /// The place of the next character.
    place: TextPlace,
    reading: PipelineReading<'a>,
    stages: Vec<StageText>,
    /// The words of the stage in progress, with their places.
    words: Vec<(OsString, TextPlace)>,
    /// The word in progress, with its place.
    word: Option<(OsString, TextPlace)>,
}

impl PipelineParser<'_> {
    fn stages(mut self) -> Result<Vec<StageText>> {
        // Whether a newline has ended the pipeline; only comments may follow.
        let mut is_complete = false;
        while let Some(c) = self.rest.peek().copied() {
            let place = self.place;
            let starts_word = self.word.is_none();
            match c {
                ' ' | '\t' => self.end_word(),
                '\r' if self.is_end_of_line() => self.end_word(),
                '\n' => {
                    self.end_word();
                    is_complete = is_complete || !self.words.is_empty();
                }
                '#' if starts_word => {
                    while self.rest.peek().is_some_and(|c| *c != '\n') {
                        self.next();
                    }
                    continue;
                }
                _ if is_complete => {
                    let hint = "expected one pipeline, found another line; a line that continues ends with | or \\";
                    return Err(place.refused(self.reading.fault, hint));
                }
                '|' => self.end_stage(place)?,
                _ => {
                    self.part(c, place)?;
                    continue;
                }
            }
            self.next();
        }
        self.end_word();
        self.end_stage(self.place)?;
        Ok(self.stages)
    }

    /// Whether the next character is the CR of a line that ends with CR LF, or of the last line.
    fn is_end_of_line(&self) -> bool {
        let mut rest = self.rest.clone();
        rest.next() == Some('\r') && rest.next().is_none_or(|c| c == '\n')
    }

    /// Skips a CR behind a `\` at the end of a line.
    fn skip_return(&mut self) -> &mut Self {
        if self.is_end_of_line() {
            self.next();
        }
        self
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        match c {
            '\n' => self.place = TextPlace { line: self.place.line + 1, column: 1 },
            _ => self.place.column += 1,
        }
        Some(c)
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_stage(&mut self, place: TextPlace) -> Result<()> {
        self.end_word();
        let words = std::mem::take(&mut self.words);
        let Some((_, begin)) = words.first() else {
            return Err(place.refused(self.reading.fault, "expected a stage: the name of a tool and its arguments"));
        };
        let place = *begin;
        self.stages.push(StageText { words: words.into_iter().map(|(word, _)| word).collect(), place });
        Ok(())
    }

    /// Adds text to the word in progress, which begins at `place` if there is none.
    fn push(&mut self, text: impl AsRef<OsStr>, place: TextPlace) {
        self.word.get_or_insert_with(|| (OsString::new(), place)).0.push(text);
    }

    /// Reads a part of a word that begins with `c`: a character, a quoted text or a variable.
    fn part(&mut self, c: char, place: TextPlace) -> Result<()> {
        self.next();
        match c {
            '\'' => self.single_quoted(place),
            '"' => self.double_quoted(place),
            '\\' => match self.skip_return().next() {
                Some('\n') => Ok(()),
                Some(c) => {
                    self.push(c.encode_utf8(&mut [0; 4]), place);
                    Ok(())
                }
                None => Err(place.refused(self.reading.fault, "expected a character after \\, found the end")),
            },
            '$' => self.variable(place, false),
            _ => match meaning(c) {
                Some(meaning) => {
                    let message = format!("found {c} outside of quotes: {meaning}; '{c}' stands for itself");
                    Err(place.refused(self.reading.fault, message))
                }
                None => {
                    self.push(c.encode_utf8(&mut [0; 4]), place);
                    Ok(())
                }
            },
        }
    }

    fn single_quoted(&mut self, place: TextPlace) -> Result<()> {
        self.push("", place);
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => self.push(c.encode_utf8(&mut [0; 4]), place),
                None => return Err(place.refused(self.reading.fault, "expected the ' that ends the quoted text")),
            }
        }
    }

    fn double_quoted(&mut self, place: TextPlace) -> Result<()> {
        self.push("", place);
        loop {
            let at = self.place;
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => self.variable(at, true)?,
                Some('`') => {
                    let message = "found ` in double quotes: a shell would run a command; \\` stands for itself";
                    return Err(at.refused(self.reading.fault, message));
                }
                Some('\\') => match self.skip_return().rest.peek().copied() {
                    Some('\n') => _ = self.next(),
                    Some(c) if "$`\"\\".contains(c) => {
                        self.next();
                        self.push(c.encode_utf8(&mut [0; 4]), place);
                    }
                    _ => self.push("\\", place),
                },
                Some(c) => self.push(c.encode_utf8(&mut [0; 4]), place),
                None => return Err(place.refused(self.reading.fault, "expected the \" that ends the quoted text")),
            }
        }
    }

    /// Reads what follows a `$` at `place`.
    fn variable(&mut self, place: TextPlace, is_quoted: bool) -> Result<()> {
        let is_braced = match self.rest.peek().copied() {
            Some('{') => {
                self.next();
                true
            }
            Some('_') => false,
            Some(c) if c.is_ascii_alphabetic() => false,
            // What follows means something else in one shell or another.
            Some(c) if c.is_ascii_graphic() && !(is_quoted && "\"'\\%+,./:=]^}~&;<>|)".contains(c)) => {
                let message =
                    format!("expected the name of a variable after $, found {c}; \\$ and '$' stand for themselves");
                return Err(place.refused(self.reading.fault, message));
            }
            _ => {
                self.push("$", place);
                return Ok(());
            }
        };
        let mut name = String::new();
        while let Some(c) = self.rest.peek().copied().filter(|c| *c == '_' || c.is_ascii_alphanumeric()) {
            name.push(c);
            self.next();
        }
        if is_braced && (self.next() != Some('}') || !name.starts_with(|c: char| !c.is_ascii_digit())) {
            let message = "expected ${NAME}; a shell has other forms, which are not read here";
            return Err(place.refused(self.reading.fault, message));
        }
        match (self.reading.variable)(&name) {
            Some(value) => {
                self.push(value, place);
                Ok(())
            }
            None => Err(place.refused(ErrorKind::Config, format!("the variable {name} is not set"))),
        }
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
