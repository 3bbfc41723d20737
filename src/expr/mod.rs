//! Expressions: SQL text → typed leaves → evaluation over batches.
//!
//! The meaning is by row, whatever its neighbours; a kind is fixed when the spec is read, never by data.
//!
//! **Names** are unquoted or "quoted" and case-sensitive. A name is a column of the stream's kind if there is one,
//! else a property; `a.b` steps into objects, `"a.b"` is one name, `properties.x` is always the property. Of two
//! equal names inside the properties the last counts.
//!
//! **Kinds** are Number (f64), Text, Bool and Time (µs UTC). A column has its own; a property takes the kind asked of
//! it: arithmetic and numeric functions ask Number; `like`, `~`, `||` and text functions Text; `where`, `and`, `or`,
//! `not` Bool; in a comparison, `in`, `between`, `case` and `coalesce` it is the kind of the other side, and `'...'`
//! beside a Time is an instant. `is null` and `count(x)` ask for none. One property asked with two kinds is two
//! leaves.
//!
//! **Reading a JSON value** ([`leaf`]): absent, null, or below a parent that is no object → NULL. A value of another
//! type than asked is *wrong*: its row is dead. Wrongness is by leaf and by row: neither `and`, `case` nor `coalesce`
//! saves a row from a leaf that stands in the expression, so a row's fate does not hang on the order of evaluation;
//! `try_cast` does, it gives NULL.
//!
//! **Values**: NULL is SQL's, with Kleene's `and` and `or`. Arithmetic is IEEE 754 (1/0 is ∞); there is one NaN, it
//! equals itself and is the greatest number, and −0 is 0, so that results hang on no platform. Text compares by its
//! bytes. `cast(... as double)` of an instant is seconds since 1970, and back.

mod bind;
mod dimension;
mod eval;
mod expression;
mod filter;
mod function;
mod leaf;
mod node;
mod parse;
mod read;
mod tree;
mod value;

pub use dimension::{canonical_dimensions, write_dimensions};
pub use expression::Expr;
pub use filter::{Filter, Nulls, Passed};
pub use function::{FUNCTIONS, Function};
pub use leaf::Leaves;
pub use read::{LeafBatch, Wrong};
pub use value::{Coded, Dimension, ValueKind, Want};

pub(crate) use node::{Node, literal_number};
pub(crate) use parse::{parse_call, refused, without_blanks};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::events as tests_events;
