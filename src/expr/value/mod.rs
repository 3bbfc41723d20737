//! Values: their types (`kind.rs`), their arrays (`operand.rs`, `coded.rs`) and casts between types (`cast.rs`).

pub(in crate::expr) mod cast;
mod coded;
mod kind;
mod operand;

pub use coded::{Coded, Dimension};
pub use kind::{ValueKind, Want};

pub(in crate::expr) use coded::{TextCache, texts_of};
pub(in crate::expr) use operand::Value;
