//! Primitive, fixed and logical types: all that refer to no other type. Enums are not among them.

use super::schema::{AvroType, Logical, Node, Unit};
use std::fmt;

/// Maximum digits after the point of a decimal; a greater scale is ignored.
const SCALE_MAX: u32 = 10_000;

/// A primitive, fixed or logical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `boolean`.
    Boolean,
    /// `int`.
    Int,
    /// `long`.
    Long,
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`, or `fixed` with a size.
    Bytes(Option<usize>),
    /// A UUID as text.
    UuidText,
    /// A UUID as 16 bytes.
    Uuid,
    /// Days since 1970.
    Date,
    /// A time of day.
    Time(Unit),
    /// An instant.
    Timestamp(Unit),
    /// An instant without zone, which is taken as UTC.
    LocalTimestamp(Unit),
    /// A decimal.
    Decimal {
        /// Its size in bytes; `None` for `bytes`.
        size: Option<usize>,
        /// Maximum number of digits.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// Months, days and milliseconds.
    Duration,
}

impl Scalar {
    /// Returns the scalar of a type; `None` for an enum or a type that contains others.
    pub fn of(node: &Node) -> Option<Self> {
        let size = match node.avro_type {
            AvroType::Fixed { size, .. } => Some(usize::try_from(size).unwrap_or(usize::MAX)),
            _ => None,
        };
        Some(match (node.logical, &node.avro_type) {
            (Some(Logical::Decimal { precision, scale }), _) if scale <= SCALE_MAX => {
                Self::Decimal { size, precision, scale }
            }
            (Some(Logical::Uuid), AvroType::String) => Self::UuidText,
            (Some(Logical::Uuid), _) => Self::Uuid,
            (Some(Logical::Date), _) => Self::Date,
            (Some(Logical::Time(unit)), _) => Self::Time(unit),
            (Some(Logical::Timestamp(unit)), _) => Self::Timestamp(unit),
            (Some(Logical::LocalTimestamp(unit)), _) => Self::LocalTimestamp(unit),
            (Some(Logical::Duration), _) => Self::Duration,
            (_, AvroType::Null) => Self::Null,
            (_, AvroType::Boolean) => Self::Boolean,
            (_, AvroType::Int) => Self::Int,
            (_, AvroType::Long) => Self::Long,
            (_, AvroType::Float) => Self::Float,
            (_, AvroType::Double) => Self::Double,
            (_, AvroType::String) => Self::String,
            (_, AvroType::Bytes | AvroType::Fixed { .. }) => Self::Bytes(size),
            _ => return None,
        })
    }
}

/// Describes the values that it takes as JSON.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int (32 bits)",
            Self::Long => "long (64 bits)",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::UuidText | Self::Uuid => "uuid",
            Self::Bytes(None) => "bytes (base64)",
            Self::Bytes(Some(size)) => return write!(f, "fixed (base64 of {size} bytes)"),
            Self::Date => "date (YYYY-MM-DD or days since 1970)",
            Self::Time(_) => "time (HH:MM:SS or a whole number)",
            Self::Timestamp(_) => "timestamp (RFC 3339 or a whole number)",
            Self::LocalTimestamp(_) => "local timestamp (RFC 3339 or a whole number)",
            Self::Decimal { precision, scale, .. } => return write!(f, "decimal({precision}, {scale})"),
            Self::Duration => "duration (PnMnDTn.nnnS)",
        })
    }
}
