//! What a tool says on stderr: one line each, nothing but clean text.

use crate::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// How diagnostics look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Off,
    /// The tool's name stands out.
    On,
}

/// The tool's voice on stderr.
#[derive(Clone)]
pub struct Console {
    tool: &'static str,
    colour: Colour,
    progress: Arc<Mutex<Option<indicatif::ProgressBar>>>,
}

impl Console {
    /// The voice of `tool`.
    pub fn new(tool: &'static str, colour: Colour) -> Self {
        Self { tool, colour, progress: Arc::default() }
    }

    /// The tool's name.
    pub fn tool(&self) -> &'static str {
        self.tool
    }

    /// One diagnostic line, prefixed with the tool's name.
    pub fn say(&self, message: impl std::fmt::Display) {
        let message = clean(&message.to_string());
        let line = match self.colour {
            Colour::Off => format!("{}: {message}\n", self.tool),
            Colour::On => format!("\x1b[1m{}\x1b[0m: {message}\n", self.tool),
        };
        let write = || {
            // Nobody can be told that stderr is gone.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        };
        match self.progress.lock().ok().and_then(|bar| bar.clone()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// The line of an error that ends the run.
    pub fn fail(&self, error: &Error) {
        self.say(error);
    }

    /// From here on diagnostics make room for this progress line.
    pub fn set_progress(&self, bar: Option<indicatif::ProgressBar>) {
        if let Ok(mut slot) = self.progress.lock() {
            *slot = bar;
        }
    }
}

/// Outside text may hold terminal escapes and newlines; a diagnostic is one clean line.
fn clean(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
