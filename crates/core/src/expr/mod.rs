//! Expressions: SQL text → typed leaves → evaluation over batches.
//!
//! ```text
//! text ─► parse.rs: Node ─► bind.rs: Tree (typed) ─► Expr ──────────────────────────┐
//!                           └─► Leaves: each path and type once                     ▼
//! batch of rows ─► read.rs: LeafBatch (one array for each leaf) ───────────────► eval.rs: one value for each row
//!                           └─► Wrong (value of another type): the row becomes a dead letter
//! ```
//!
//! An expression is a function of its row alone. Its types are fixed when the spec is read, never by data.
//!
//! **Names** are unquoted or "quoted" and case-sensitive. A name is a column of the stream's kind if there is one, else
//! a property; `a.b` steps into objects, `a[1]` into arrays, `"a.b"` is one name, `properties.x` is always the
//! property. If a name occurs twice inside the properties, the last value counts.
//!
//! **Types** are Number (f64), Text, Bool and Time (µs UTC). A column has its own. A property takes the type that its
//! context requires: arithmetic and numeric functions require Number; `like`, `~`, `||` and text functions Text;
//! `where`, `and`, `or`, `not` Bool; in a comparison, `in`, `between`, `case` and `coalesce` it is the type of the
//! other side, and `'...'` beside a Time is an instant. `is null` and `count(x)` require none. One property with two
//! required types is two leaves.
//!
//! **Reading a JSON value** ([`leaf`]): absent, null, or below a parent that is not an object → NULL. A value of
//! another type than required is *wrong*, and its row becomes a dead letter. This is decided per leaf and row: a wrong
//! leaf rejects its row even inside `and`, `case` and `coalesce`, so that the outcome of a row does not depend on the
//! order of evaluation. Only `try_cast` does: it returns NULL.
//!
//! **Values**: NULL is SQL's, with Kleene's `and` and `or`. Arithmetic is IEEE 754 (1/0 is ∞). There is one NaN, which
//! equals itself and is the greatest number, and −0 is 0, so that results do not depend on the platform. Text compares
//! by its bytes. `cast(... as double)` of an instant is seconds since 1970, and back.
//!
//! **Files**: `parse.rs` turns text into nodes (`node.rs`), `bind.rs` types them as a tree (`tree.rs`) over leaves
//! (`leaf.rs`); `expression.rs` holds the result. `read.rs` reads a batch into the leaves, `eval.rs` evaluates trees,
//! `function/` has the functions, `value/` types and casts. `filter.rs` is `--where`, `dimension.rs` the canonical
//! form of dimensions.

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
pub use filter::{Filter, ObservedLeaves, Passed, rounded_integers, wrong_of};
pub use function::{FUNCTIONS, Function};
pub use leaf::{Leaves, TextBits};
pub use read::{LeafBatch, Wrong, WrongRows};
pub use value::{Dictionary, Dimension, ValueKind, Want};

pub(crate) use expression::without_blanks;
pub(crate) use leaf::{LeafType, Source};
pub(crate) use node::{Branch, Node, Operator, PathKey, hyphenated, literal_number, path_text, read_paths};
pub(crate) use parse::{parse, parse_assignments, parse_call, refused};
pub(crate) use read::value_at;
pub(crate) use tree::Tree;
pub(crate) use value::cast::text_number;
pub(crate) use value::decimal::decimal_texts;

#[cfg(test)]
mod tests;
