//! Nodes of a parsed expression, before they have types; independent of the parser.

use super::value::ValueKind;
use std::fmt;

/// A constant in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Number(f64),
    Text(String),
    Bool(bool),
    /// Microseconds since 1970, UTC.
    Time(i64),
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    And,
    Or,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Concat,
}

impl Operator {
    /// Returns its spelling.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Concat => "||",
        }
    }

    /// Whether it compares by order, which differs between text and numbers ('9' > '10').
    pub(crate) fn orders(self) -> bool {
        matches!(self, Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathKey {
    /// The member of an object with this name.
    Member(String),
    /// The element of an array at this position: from 1, or from the end if it is negative.
    Element(i64),
}

impl PathKey {
    /// Returns the steps through members with these names.
    pub(crate) fn members(names: &[String]) -> Vec<Self> {
        names.iter().cloned().map(Self::Member).collect()
    }

    /// Whether it is the member `key` of an object.
    pub(crate) fn is_member(&self, key: &str) -> bool {
        matches!(self, Self::Member(name) if name == key)
    }

    /// Whether it is the element at `index` (from 0) of an array of `count` elements.
    pub(crate) fn is_element(&self, index: usize, count: usize) -> bool {
        match *self {
            Self::Element(position) if position < 0 => count.checked_add_signed(position as isize) == Some(index),
            Self::Element(position) => usize::try_from(position).is_ok_and(|position| position == index + 1),
            Self::Member(_) => false,
        }
    }
}

/// Returns a path as its name in messages and results, without quotes: `a.b[1].c`.
pub(crate) fn path_text(steps: &[PathKey]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            PathKey::Member(name) if text.is_empty() => text.push_str(name),
            PathKey::Member(name) => text.extend([".", name]),
            PathKey::Element(position) => text.push_str(&format!("[{position}]")),
        }
    }
    text
}

/// Reads the paths of a flag, separated by commas: `event_time,labels[1].name,"a.b"`. Unlike in an expression, a name
/// without quotes may have any characters but commas and dots. Blanks around it do not count.
///
/// Returns `None` if a name is empty or a quote is not closed.
pub(crate) fn read_paths(text: &str) -> Option<Vec<Vec<PathKey>>> {
    let (mut paths, mut path) = (vec![], vec![]);
    let mut rest = text;
    loop {
        let (name, after) = read_name(rest.trim_start())?;
        path.push(PathKey::Member(name));
        rest = after;
        while let Some((position, after)) = read_position(rest) {
            path.push(PathKey::Element(position));
            rest = after;
        }
        rest = rest.trim_start();
        match rest.chars().next() {
            None => break,
            Some('.') => {}
            Some(',') => paths.push(std::mem::take(&mut path)),
            Some(_) => return None,
        }
        rest = &rest[1..];
    }
    paths.push(path);
    Some(paths)
}

/// Reads the name at the start of `text`, and returns what follows it.
fn read_name(text: &str) -> Option<(String, &str)> {
    if let Some(mut rest) = text.strip_prefix('"') {
        let mut name = String::new();
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            match after.strip_prefix('"') {
                // Two quotes in a row stand for one.
                Some(after) => (rest, name) = (after, name + "\""),
                None => return (!name.is_empty()).then_some((name, after)),
            }
        }
    }
    let ends = |(at, sign): &(usize, char)| match sign {
        '.' | ',' => true,
        '[' => read_position(&text[*at..]).is_some(),
        _ => false,
    };
    let (name, after) = text.split_at(text.char_indices().find(ends).map_or(text.len(), |(at, _)| at));
    let name = name.trim_end();
    (!name.is_empty()).then(|| (name.to_owned(), after))
}

/// Reads the position of an element, like `[1]` or `[-1]`, at the start of `text`, and returns what follows it.
fn read_position(text: &str) -> Option<(i64, &str)> {
    let (number, after) = text.strip_prefix('[')?.split_once(']')?;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.len() < 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|position| is_number && *position != 0)?, after))
}

/// Returns a name, which has no quotes, as an expression has it: its parts in double quotes unless they are plain.
pub(crate) fn quoted_name(name: &str) -> String {
    let is_plain = |part: &str| {
        let part = part.split('[').next().unwrap_or_default();
        part.starts_with(|char: char| char.is_alphabetic() || char == '_')
            && part.chars().all(|char| char.is_alphanumeric() || char == '_')
    };
    match name.split('.').all(is_plain) {
        true => name.to_owned(),
        // A part may have points itself: it is one name.
        false if name.split('.').any(|part| part.contains(' ') || part.is_empty()) => format!("\"{name}\""),
        false => {
            let quoted = |part: &str| match part.find('[').unwrap_or(part.len()) {
                _ if is_plain(part) => part.to_owned(),
                end => format!("\"{}\"{}", &part[..end], &part[end..]),
            };
            name.split('.').map(quoted).collect::<Vec<_>>().join(".")
        }
    }
}

/// Returns the hint for a difference of names that may be meant as one name, such as `User-Agent`.
pub(crate) fn hyphenated(node: &Node) -> Option<String> {
    fn joined(node: &Node) -> Option<String> {
        match node {
            Node::Name(parts) => Some(path_text(parts)),
            Node::Binary(Operator::Subtract, left, right) => Some(format!("{}-{}", joined(left)?, joined(right)?)),
            _ => None,
        }
    }
    let name = joined(node).filter(|_| matches!(node, Node::Binary(..)))?;
    Some(format!("if {name} is one name, write {}", quoted_name(&name)))
}

/// `WHEN condition THEN result`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Branch<T> {
    pub(crate) condition: T,
    pub(crate) result: T,
}

/// One node of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// A column or a path into the properties.
    Name(Vec<PathKey>),
    Literal(Literal),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    IsNull {
        value: Box<Node>,
        negated: bool,
    },
    In {
        value: Box<Node>,
        list: Vec<Node>,
        negated: bool,
    },
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
        negated: bool,
    },
    Like {
        value: Box<Node>,
        pattern: Box<Node>,
        negated: bool,
        any_case: bool,
    },
    Match {
        value: Box<Node>,
        pattern: Box<Node>,
        negated: bool,
    },
    Case {
        operand: Option<Box<Node>>,
        branches: Vec<Branch<Node>>,
        otherwise: Option<Box<Node>>,
    },
    Cast {
        value: Box<Node>,
        kind: ValueKind,
        lenient: bool,
    },
    Coalesce(Vec<Node>),
    Call {
        name: String,
        args: Vec<Node>,
    },
}

/// An aggregate as written: `ratio(status >= 500) filter (where host is not null)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WrittenCall {
    pub(crate) name: String,
    /// Whether `*` is the only argument.
    pub(crate) star: bool,
    /// Whether `distinct` precedes the arguments.
    pub(crate) is_distinct: bool,
    pub(crate) args: Vec<Node>,
    pub(crate) filter: Option<Node>,
}

impl Node {
    /// Returns the constant `true`.
    pub(crate) fn truth() -> Self {
        Self::Literal(Literal::Bool(true))
    }

    /// Returns the column of this name.
    pub(crate) fn column(name: &str) -> Self {
        Self::Name(vec![PathKey::Member(name.to_owned())])
    }

    /// Returns `value` where `filter` is true, else null: the effect of a filter on an argument.
    pub(crate) fn only_where(filter: Node, value: Node) -> Self {
        Self::Case { operand: None, branches: vec![Branch { condition: filter, result: value }], otherwise: None }
    }
}

/// Returns the number of a constant.
pub(crate) fn literal_number(node: &Node) -> Option<f64> {
    match node {
        Node::Literal(Literal::Number(number)) => Some(*number),
        _ => None,
    }
}

impl fmt::Display for Node {
    /// Writes enough of the node to find it in the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(steps) => f.write_str(&path_text(steps)),
            Self::Literal(Literal::Null) => f.write_str("null"),
            Self::Literal(Literal::Number(number)) => write!(f, "{number}"),
            Self::Literal(Literal::Text(text)) => write!(f, "'{text}'"),
            Self::Literal(Literal::Bool(truth)) => write!(f, "{truth}"),
            Self::Literal(Literal::Time(micros)) => write!(f, "timestamp '{}'", crate::time::format_instant(*micros)),
            Self::Binary(operator, left, right) => write!(f, "{left} {} {right}", operator.sign()),
            Self::Negate(value) => write!(f, "-{value}"),
            Self::Call { name, .. } => write!(f, "{name}(...)"),
            Self::Coalesce(_) => f.write_str("coalesce(...)"),
            Self::Cast { .. } => f.write_str("cast(...)"),
            Self::Case { .. } => f.write_str("case ... end"),
            Self::Not(value) => write!(f, "not {value}"),
            Self::IsNull { value, .. } => write!(f, "{value} is null"),
            Self::In { value, .. } => write!(f, "{value} in (...)"),
            Self::Between { value, .. } => write!(f, "{value} between ..."),
            Self::Like { value, .. } => write!(f, "{value} like ..."),
            Self::Match { value, .. } => write!(f, "{value} ~ ..."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_flags_have_the_steps_of_expressions_and_names_with_any_characters() {
        let read = |text: &str| -> Option<Vec<String>> {
            Some(read_paths(text)?.iter().map(|path| format!("{path:?}").replace("PathKey::", "")).collect())
        };
        assert_eq!(
            read("a.b[1].c, user-agent ,\"x.y, \"\"z\"\"\"[-2],Temp [C],t[0]"),
            Some(vec![
                "[Member(\"a\"), Member(\"b\"), Element(1), Member(\"c\")]".to_owned(),
                "[Member(\"user-agent\")]".to_owned(),
                "[Member(\"x.y, \\\"z\\\"\"), Element(-2)]".to_owned(),
                "[Member(\"Temp [C]\")]".to_owned(),
                "[Member(\"t[0]\")]".to_owned(),
            ])
        );
        for text in ["", "a,,b", "a.", ".a", "\"a", "\"\"", "\"a\"b", "[1]", "a[1]b"] {
            assert_eq!(read(text), None, "{text}");
        }
        let path = vec![PathKey::Member("labels".into()), PathKey::Element(1), PathKey::Member("name".into())];
        assert_eq!(read_paths("labels[1].name"), Some(vec![path.clone()]));
        assert_eq!(super::super::parse("labels[1].name").unwrap(), Node::Name(path));
    }
}
