//! Tests through the binaries: what a user types, what comes out.
#![forbid(unsafe_code)]

mod broker;
mod brokers;
mod compat;
mod containers;
mod crash;
mod docs;
mod door;
mod edges;
mod faults;
mod files;
mod frames;
mod fuzz;
mod fuzz_seeds;
mod groups;
mod harness;
mod headers;
mod http;
mod http_limits;
mod json;
mod kafka;
mod man;
mod oracle;
mod outputs;
mod pipe;
mod registry;
mod resolution;
mod scrape;
mod servers;
mod services;
mod spool;
mod state;
mod tidy;
mod time;
mod view;
mod windows;
