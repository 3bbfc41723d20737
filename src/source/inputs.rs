//! The inputs of a source that are open, and those that have ended.

use evt_run::input::Input;
use std::collections::VecDeque;

/// An open input and its number on the command line.
pub(super) struct NumberedInput {
    pub(super) number: u32,
    pub(super) input: Box<dyn Input>,
}

/// The inputs that were opened.
#[derive(Default)]
pub(super) struct OpenInputs {
    /// Open inputs. The source reads the first one; the others take turns with it.
    running: VecDeque<NumberedInput>,
    /// Inputs that have ended and commit positions at the end of the run.
    ended: Vec<NumberedInput>,
}

impl OpenInputs {
    /// Adds an input, which takes turns with the others.
    pub(super) fn add(&mut self, number: u32, input: Box<dyn Input>) {
        self.running.push_back(NumberedInput { number, input });
    }

    /// Returns the input that is read now.
    pub(super) fn current(&self) -> Option<&NumberedInput> {
        self.running.front()
    }

    /// The same, to read it.
    pub(super) fn current_mut(&mut self) -> Option<&mut NumberedInput> {
        self.running.front_mut()
    }

    /// Returns the input that is read now, or the one that ended last.
    pub(super) fn last_mut(&mut self) -> Option<&mut NumberedInput> {
        self.running.front_mut().or(self.ended.last_mut())
    }

    /// Returns the inputs that have not ended, in the order of their turns.
    pub(super) fn running(&self) -> impl Iterator<Item = &NumberedInput> {
        self.running.iter()
    }

    /// The same, to read or wait for them.
    pub(super) fn running_mut(&mut self) -> &mut [NumberedInput] {
        self.running.make_contiguous()
    }

    /// Returns the number of inputs that have not ended.
    pub(super) fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Returns all inputs, those that have ended first.
    pub(super) fn all(&self) -> impl Iterator<Item = &NumberedInput> {
        self.ended.iter().chain(&self.running)
    }

    /// The same, to note or commit positions.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut NumberedInput> {
        self.ended.iter_mut().chain(&mut self.running)
    }

    /// Makes the next input the one that is read.
    pub(super) fn turn(&mut self) {
        self.running.rotate_left(1);
    }

    /// Ends the input that is read now; it stays if it commits positions. Returns whether another one is open.
    pub(super) fn end_current(&mut self) -> bool {
        self.ended.extend(self.running.pop_front().filter(|ended| ended.input.commits()));
        !self.running.is_empty()
    }
}
