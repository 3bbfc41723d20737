//! The types of values and of contexts.

/// The type of a value; every leaf and every expression has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueKind {
    /// A double: `Float64Array`.
    Number,
    /// `StringArray`.
    Text,
    /// `BooleanArray`.
    Bool,
    /// Microseconds since 1970, UTC: `Int64Array`.
    Time,
}

impl ValueKind {
    /// Returns the word in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "instant",
        }
    }

    /// Returns the word in `cast(x as ...)`.
    pub(crate) fn cast_name(self) -> &'static str {
        match self {
            Self::Number => "double",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "timestamp",
        }
    }
}

/// The type that the context of an expression requires of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A value of this type: `where` requires Bool, `min` Number.
    Kind(ValueKind),
    /// A number. Properties keep the decimal that is written if it is not the shortest text of its double: the array
    /// then has texts, else doubles (`sum`).
    Decimal,
    /// No type: only whether it is NULL counts (`count(x)`).
    Presence,
    /// Any value, as text (a dimension, `approx_distinct`).
    AsText,
    /// Any value, of its own type, or as text if it has none (an assignment).
    Own,
}
