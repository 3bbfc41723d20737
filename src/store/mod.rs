//! Stores: where rows end up, and where a view reads them back.
//!
//! One contract for all, shaped for exactly-once: rows are written, [`Sink::prepare`] makes those of an epoch durable,
//! [`Sink::commit`] applies them, and can be repeated. A store whose rows are guarded keys (SQL) may apply earlier:
//! a replay converges. To add a store: one file, one row in [`ALL`].

pub mod cells;
mod definition;
pub mod durable;
pub mod guard;
mod lake;
mod location;
pub mod nested;
mod postgres;
mod redis;
pub mod remote;
pub mod repeat;
pub mod room;
pub mod rows;
mod sink;
mod sqlite;

pub use definition::{Batches, Store, Tables};
pub use location::Location;
pub use sink::{Epoch, Notice, OpenOptions, Outcome, Refused, Sink};

/// The store whose scheme is `scheme`.
pub fn by_scheme(scheme: &str) -> Option<&'static Store> {
    ALL.iter().copied().find(|store| store.scheme == scheme || store.also.contains(&scheme))
}

/// Every store: adding one is one file and one row here.
pub const ALL: &[&Store] = &[&sqlite::STORE, &postgres::STORE, &redis::STORE, &lake::STORE];

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod sample;
