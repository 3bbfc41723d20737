//! Values: their kinds, how they are held, and how one kind becomes another.

pub(in crate::expr) mod cast;
mod coded;
mod kind;
mod operand;

pub use coded::{Coded, Dimension};
pub use kind::{ValueKind, Want};

pub(in crate::expr) use coded::{TextCache, texts_of};
pub(in crate::expr) use operand::Value;
