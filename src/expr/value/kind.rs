//! The kinds of values.

/// What a value is; every leaf and every expression has one.
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
    /// The word in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "instant",
        }
    }

    /// The word in `cast(x as ...)`.
    pub(crate) fn cast_name(self) -> &'static str {
        match self {
            Self::Number => "double",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "timestamp",
        }
    }
}

/// What is asked of an expression by the place it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A value of this kind: `where` asks Bool, `sum` Number.
    Kind(ValueKind),
    /// No kind: only whether it is NULL counts (`count(x)`).
    Presence,
    /// Any value, as text (`approx_distinct`).
    AsText,
    /// A column or path, as text (`by`).
    Dimension,
}
