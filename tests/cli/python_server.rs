//! Servers of `tests/oracle`, which are written in Python.

use crate::harness::{Dir, ROOT};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// A server that ends with the test.
pub struct PythonServer {
    child: Child,
    pub port: String,
}

impl PythonServer {
    /// Starts `tests/oracle/{script}` in `dir` and waits until it prints its port.
    pub fn new(dir: &Dir, python: &str, script: &str, args: &[&str]) -> Self {
        let script = format!("{ROOT}/tests/oracle/{script}");
        let all = [&[script.as_str()], args].concat();
        let mut child = dir.command(python, &all).stdout(Stdio::piped()).spawn().expect("python runs");
        let mut port = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut port).expect("it prints its port");
        Self { child, port: port.trim().to_owned() }
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
