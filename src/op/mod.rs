//! Operators: pure functions of rows, specs and options; no I/O and no clock.

pub mod generate;
