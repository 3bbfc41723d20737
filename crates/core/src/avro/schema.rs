//! An Avro schema as a small arena: every type is a node; a named type is one node however often it is used.
//!
//! The parser ([`super::parse`]) resolves references, so that a recursive type is a cycle of [`NodeId`]s and names need
//! no further lookup.

use crate::json::text::write_string;
use arrow::datatypes::TimeUnit;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Maximum number of enum symbols in a message.
const SYMBOLS_MAX: usize = 8;

/// Index of a type in its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// Returns its index in [`Schema::ids`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A whole schema, references resolved.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// One type.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its Avro type.
    pub avro_type: AvroType,
    /// Its logical type, if the schema has one that fits.
    pub logical: Option<Logical>,
}

/// An Avro type.
#[derive(Clone, Debug)]
pub enum AvroType {
    /// `null`.
    Null,
    /// `boolean`.
    Boolean,
    /// `int`: 32 bits, signed.
    Int,
    /// `long`: 64 bits, signed.
    Long,
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `bytes`.
    Bytes,
    /// `string`.
    String,
    /// A named type with a fixed number of bytes.
    Fixed {
        /// Its name.
        name: TypeName,
        /// The number of bytes.
        size: u64,
    },
    /// One of some symbols.
    Enum {
        /// Its name.
        name: TypeName,
        /// The symbols, in order.
        symbols: Vec<String>,
        /// The symbol with which a reader replaces unknown symbols.
        default: Option<String>,
    },
    /// Named fields.
    Record {
        /// Its name.
        name: TypeName,
        /// The fields, in order.
        fields: Vec<Field>,
    },
    /// Values of one type.
    Array(NodeId),
    /// Values of one type by string keys.
    Map(NodeId),
    /// One of several types.
    Union(Vec<NodeId>),
}

/// The name of a record, an enum or a fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// The name without namespace.
    pub short: String,
    /// The namespace; `None` is Avro's null namespace.
    pub namespace: Option<String>,
    /// Other full names under which a reader accepts it.
    pub aliases: Vec<String>,
}

impl TypeName {
    /// Returns `namespace.name`.
    pub fn full(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}.{}", self.short),
            None => self.short.clone(),
        }
    }
}

/// A field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Other names under which a reader finds it.
    pub aliases: Vec<String>,
    /// Its type.
    pub node: NodeId,
    /// The value if the writer has none; `Some(Value::Null)` is the default null.
    pub default: Option<Value>,
}

impl Field {
    /// Returns the writer's counterpart of this reader's field: by its name, else by the first alias that exists.
    pub fn find<'a, T>(&self, written: &'a HashMap<&str, T>) -> Option<&'a T> {
        let named = |name: &String| written.get(name.as_str());
        named(&self.name).or_else(|| self.aliases.iter().find_map(named))
    }
}

/// A place in a schema and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault {
    /// The path: `Order.items[].price`; `[]` steps into an array, `{}` into a map.
    pub path: String,
    /// The reason.
    pub why: String,
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// The unit of a time as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl From<Unit> for TimeUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Millis => Self::Millisecond,
            Unit::Micros => Self::Microsecond,
            Unit::Nanos => Self::Nanosecond,
        }
    }
}

/// A logical type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// A decimal number.
    Decimal {
        /// Maximum number of digits.
        precision: u32,
        /// Maximum digits after the point.
        scale: u32,
    },
    /// A UUID.
    Uuid,
    /// Days since 1970.
    Date,
    /// Time of day.
    Time(Unit),
    /// An instant.
    Timestamp(Unit),
    /// A date and time without zone.
    LocalTimestamp(Unit),
    /// Months, days and milliseconds.
    Duration,
}

impl Logical {
    /// Returns Avro's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decimal { .. } => "decimal",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Time(Unit::Millis) => "time-millis",
            Self::Time(_) => "time-micros",
            Self::Timestamp(Unit::Millis) => "timestamp-millis",
            Self::Timestamp(Unit::Micros) => "timestamp-micros",
            Self::Timestamp(Unit::Nanos) => "timestamp-nanos",
            Self::LocalTimestamp(Unit::Millis) => "local-timestamp-millis",
            Self::LocalTimestamp(Unit::Micros) => "local-timestamp-micros",
            Self::LocalTimestamp(Unit::Nanos) => "local-timestamp-nanos",
            Self::Duration => "duration",
        }
    }
}

impl Schema {
    /// Returns the outermost type.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// Returns the type at `id`, an index of this schema.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Returns the names of the fields of the outermost type, if it is a record.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        let fields = match &self.node(self.root).avro_type {
            AvroType::Record { fields, .. } => fields.as_slice(),
            _ => &[],
        };
        fields.iter().map(|field| field.name.as_str())
    }

    /// Whether the type at `id` is null, or a union with null.
    pub fn takes_null(&self, id: NodeId) -> bool {
        match &self.node(id).avro_type {
            AvroType::Union(branches) => branches.iter().any(|branch| self.takes_null(*branch)),
            avro_type => matches!(avro_type, AvroType::Null),
        }
    }

    /// Returns every index of this schema, in order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        (0u32..).take(self.nodes.len()).map(NodeId)
    }

    /// Describes the type at `id` for messages: `string`, `record Order`, `array`.
    pub fn describe(&self, id: NodeId) -> String {
        match &self.node(id).avro_type {
            AvroType::Fixed { name, .. } => format!("fixed {}", name.short),
            AvroType::Enum { name, .. } => format!("enum {}", name.short),
            AvroType::Record { name, .. } => format!("record {}", name.short),
            avro_type => avro_type.word().to_owned(),
        }
    }

    /// Returns the start of paths into this schema: the name of its outermost type.
    pub fn title(&self) -> String {
        let avro_type = &self.node(self.root).avro_type;
        avro_type.name().map_or_else(|| avro_type.word(), |name| &name.short).to_owned()
    }

    /// Returns Avro's parsing canonical form: only what determines how bytes are read.
    pub fn canonical_form(&self) -> String {
        self.write(false)
    }

    /// Returns everything that determines what the schema accepts or reads: the canonical form with defaults, aliases
    /// and logical types. Two schemas are the same version iff this text is equal; `doc`, `order` and attributes
    /// unknown to Avro do not count.
    pub fn identity(&self) -> String {
        self.write(true)
    }

    fn write(&self, full: bool) -> String {
        let mut writer = Writer { schema: self, full, written: HashSet::new(), out: String::new() };
        writer.node(self.root);
        writer.out
    }
}

impl AvroType {
    /// Returns the primitive type of that word.
    pub(super) fn primitive(word: &str) -> Option<Self> {
        use AvroType::{Boolean, Bytes, Double, Float, Int, Long, Null, String};
        [Null, Boolean, Int, Long, Float, Double, Bytes, String].into_iter().find(|primitive| primitive.word() == word)
    }

    /// Returns the name of a record, an enum or a fixed.
    pub fn name(&self) -> Option<&TypeName> {
        match self {
            Self::Fixed { name, .. } | Self::Enum { name, .. } | Self::Record { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Returns Avro's word for this type.
    pub fn word(&self) -> &'static str {
        match self {
            AvroType::Null => "null",
            AvroType::Boolean => "boolean",
            AvroType::Int => "int",
            AvroType::Long => "long",
            AvroType::Float => "float",
            AvroType::Double => "double",
            AvroType::Bytes => "bytes",
            AvroType::String => "string",
            AvroType::Fixed { .. } => "fixed",
            AvroType::Enum { .. } => "enum",
            AvroType::Record { .. } => "record",
            AvroType::Array(_) => "array",
            AvroType::Map(_) => "map",
            AvroType::Union(_) => "union",
        }
    }
}

/// Describes an enum by its first symbols, for messages.
pub fn describe_symbols<'a>(symbols: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = symbols.len().saturating_sub(SYMBOLS_MAX);
    let first = symbols.take(SYMBOLS_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { format!("one of {first}") } else { format!("one of {first} and {more} more") }
}

struct Writer<'a> {
    schema: &'a Schema,
    full: bool,
    written: HashSet<NodeId>,
    out: String,
}

impl Writer<'_> {
    fn node(&mut self, id: NodeId) {
        let node = self.schema.node(id);
        match &node.avro_type {
            AvroType::Union(branches) => self.list(branches, |writer, branch| writer.node(*branch)),
            AvroType::Fixed { name, .. } | AvroType::Enum { name, .. } | AvroType::Record { name, .. } => {
                self.named(id, name)
            }
            AvroType::Array(item) => self.container("array", "items", *item),
            AvroType::Map(value) => self.container("map", "values", *value),
            plain if self.full && node.logical.is_some() => {
                self.out.push_str("{\"type\":");
                self.json(plain.word());
                self.logical(node);
                self.out.push('}');
            }
            plain => self.json(plain.word()),
        }
    }

    fn named(&mut self, id: NodeId, name: &TypeName) {
        if !self.written.insert(id) {
            return self.json(&name.full());
        }
        self.out.push_str("{\"name\":");
        self.json(&name.full());
        self.out.push_str(",\"type\":");
        let node = self.schema.node(id);
        self.json(node.avro_type.word());
        match &node.avro_type {
            AvroType::Fixed { size, .. } => self.text(&format!(",\"size\":{size}")),
            AvroType::Enum { symbols, default, .. } => {
                self.strings("symbols", symbols);
                if let (true, Some(default)) = (self.full, default) {
                    self.out.push_str(",\"default\":");
                    self.json(default);
                }
            }
            AvroType::Record { fields, .. } => {
                self.out.push_str(",\"fields\":");
                self.list(fields, Self::field);
            }
            _ => {}
        }
        if self.full {
            self.strings_if_any("aliases", &name.aliases);
            self.logical(node);
        }
        self.out.push('}');
    }

    fn field(&mut self, field: &Field) {
        self.out.push_str("{\"name\":");
        self.json(&field.name);
        self.out.push_str(",\"type\":");
        self.node(field.node);
        if self.full {
            self.strings_if_any("aliases", &field.aliases);
            if let Some(default) = &field.default {
                self.text(&format!(",\"default\":{default}"));
            }
        }
        self.out.push('}');
    }

    fn logical(&mut self, node: &Node) {
        let Some(logical) = node.logical else { return };
        self.text(&format!(",\"logicalType\":\"{}\"", logical.name()));
        if let Logical::Decimal { precision, scale } = logical {
            self.text(&format!(",\"precision\":{precision},\"scale\":{scale}"));
        }
    }

    fn container(&mut self, word: &str, key: &str, inner: NodeId) {
        self.text(&format!("{{\"type\":\"{word}\",\"{key}\":"));
        self.node(inner);
        self.out.push('}');
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.out.push('[');
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                self.out.push(',');
            }
            each(self, item);
        }
        self.out.push(']');
    }

    fn strings(&mut self, key: &str, items: &[String]) {
        self.text(&format!(",\"{key}\":"));
        self.list(items, |writer, item| writer.json(item));
    }

    fn strings_if_any(&mut self, key: &str, items: &[String]) {
        if !items.is_empty() {
            self.strings(key, items);
        }
    }

    fn json(&mut self, content: &str) {
        write_string(&mut self.out, content);
    }

    fn text(&mut self, text: &str) {
        self.out.push_str(text);
    }
}
