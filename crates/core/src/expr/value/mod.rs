//! Values: their types (`kind.rs`), their arrays (`operand.rs`, `dictionary.rs`), decimals (`decimal.rs`) and casts
//! between types (`cast.rs`).
//!
//! ```text
//! column, or property of JSON ─► dictionary column ─┬─► operand.rs: Value, an array or one literal ─► functions
//!                                                   └─► Dimension, codes that group rows without a look at the texts
//!                     cast.rs: a value of one kind.rs::ValueKind as another, by PostgreSQL's rules
//! ```

pub(in crate::expr) mod cast;
pub(in crate::expr) mod decimal;
mod dictionary;
mod kind;
mod operand;

pub use dictionary::{Dictionary, Dimension};
pub use kind::{ValueKind, Want};

pub(in crate::expr) use dictionary::{TextCache, texts_of};
pub(in crate::expr) use operand::Value;
