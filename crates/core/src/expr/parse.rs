//! SQL text → [`Node`]: the only file that names the crate sqlparser.
//!
//! It is an allow-list: syntax without an arm here is refused with a message. The dialect is evt's own, so that words
//! such as `user` stay names; strings have no backslash escapes, names are "quoted". The parser must have read to the
//! end (`parse_expr` stops early on `labels.0 = 1`).

use super::node::{Branch, Literal, Node, Operator, PathKey, WrittenCall, literal_number};
use super::value::ValueKind;
use crate::error::{Error, Result};
use crate::parse::excerpt::{brief, brief_between, column_in, excerpt, without_repeats};
use crate::time::read_iso;
use sqlparser::ast::{
    AccessExpr, Assignment, AssignmentTarget, BinaryOperator, CastKind, CeilFloorKind, DataType, DuplicateTreatment,
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Subscript, UnaryOperator,
    Value,
};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// Longest text of one expression, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of words and signs in an expression, beside its literals and commas: bounds the depth of every tree.
const WORDS_MAX: usize = 1000;

/// The greatest integer up to which each integer is a double: 2^53 − 1.
pub(super) const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// Maximum nesting of an expression.
const DEPTH_MAX: usize = 30;

#[derive(Debug)]
struct ExpressionDialect;

impl Dialect for ExpressionDialect {
    fn is_identifier_start(&self, c: char) -> bool {
        c.is_alphabetic() || c == '_'
    }

    fn is_identifier_part(&self, c: char) -> bool {
        c.is_alphanumeric() || c == '_' || c == '$'
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        c == '"'
    }

    fn supports_boolean_literals(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    /// Whether the parser parses a word in one way only. It parses any other word at the start of an expression again
    /// as a name if the first attempt fails, so an error inside n such words would take 2^n attempts. [`name_words`]
    /// has already separated the names.
    fn is_reserved_for_identifier(&self, word: Keyword) -> bool {
        matches!(word, Keyword::CASE | Keyword::NOT | Keyword::EXISTS | Keyword::INTERVAL | Keyword::STRUCT)
            || CALLED.contains(&word)
    }
}

/// Whether the tokenizer takes a character as a part of a name after its first one.
pub(super) fn is_part_of_name(c: char) -> bool {
    ExpressionDialect.is_identifier_part(c)
}

/// Words that the parser reads as calls with a grammar of their own.
const CALLED: [Keyword; 13] = [
    Keyword::ARRAY,
    Keyword::CAST,
    Keyword::CEIL,
    Keyword::CONVERT,
    Keyword::EXTRACT,
    Keyword::FLOOR,
    Keyword::OVERLAY,
    Keyword::POSITION,
    Keyword::SAFE_CAST,
    Keyword::SUBSTR,
    Keyword::SUBSTRING,
    Keyword::TRIM,
    Keyword::TRY_CAST,
];

/// Turns words with a grammar of their own into names where they can only be names: `case = 1`, `trim is null`.
fn name_words(tokens: &mut [TokenWithSpan]) {
    for at in 0..tokens.len() {
        let next = tokens[at + 1..].iter().find(|token| !matches!(token.token, Token::Whitespace(_)));
        let next = next.map_or(Token::EOF, |next| next.token.clone());
        let Token::Word(word) = &mut tokens[at].token else { continue };
        let is_name = match word.keyword {
            Keyword::NOT => is_sign_after_operand(&next),
            Keyword::CASE => is_sign_after_operand(&next) || is_word_after_operand(&next),
            called if CALLED.contains(&called) => !matches!(next, Token::LParen | Token::LBracket),
            _ => false,
        };
        if is_name {
            word.keyword = Keyword::NoKeyword;
        }
    }
}

fn is_sign_after_operand(token: &Token) -> bool {
    use Token::{Comma, Div, EOF, Eq, Gt, GtEq, Lt, LtEq, Mod, Mul, Neq, Period, RBracket, RParen};
    matches!(token, Comma | Div | EOF | Eq | Gt | GtEq | Lt | LtEq | Mod | Mul | Neq | Period | RBracket | RParen)
}

fn is_word_after_operand(token: &Token) -> bool {
    use Keyword::{AND, BETWEEN, ILIKE, IN, IS, LIKE, OR};
    matches!(token, Token::Word(word) if matches!(word.keyword, AND | BETWEEN | ILIKE | IN | IS | LIKE | OR))
}

/// Why a node is refused; the caller adds the expression's text.
type Reason = String;

/// Parses an expression.
///
/// Errors: exit status 78; the message has the text, the place and a remedy.
pub(crate) fn parse(text: &str) -> Result<Node> {
    let sql = read(text)?;
    node(&sql).map_err(|why| refused(text, &why))
}

/// Parses an aggregate: `count(*)`, `approx_percentile(latency_ms, 0.99)`.
pub(crate) fn parse_call(text: &str) -> Result<WrittenCall> {
    match read(text)? {
        Expr::Function(function) => written(&function).map_err(|why| refused(text, &why)),
        _ => Err(refused(text, "expected one aggregate call, like count(*) or sum(amount)")),
    }
}

/// Returns an error about the expression `text`, of which it shows at most 200 bytes: those around the column that
/// `why` names.
#[cold]
pub(crate) fn refused(text: &str, why: &str) -> Error {
    let blank = text.len() - text.trim_start().len();
    let column = column_in(why).map_or(1, |column| column.saturating_sub(blank));
    Error::config(format!("expression `{}`: {}", excerpt(text.trim(), column), without_repeats(why, text)))
}

fn read(text: &str) -> Result<Expr> {
    read_with(text, |parser| parser.parse_expr())
}

/// Parses `set NAME = EXPRESSION, …`; the word `set` may be missing. Returns the path of each name with its expression.
///
/// Errors: exit status 78; the message has the text, the place and a remedy.
pub(crate) fn parse_assignments(text: &str) -> Result<Vec<(Vec<String>, Node)>> {
    let assignments = read_with(text, |parser| {
        // `set = 1` assigns to a field of this name.
        if parser.peek_nth_token(1).token != Token::Eq {
            let _ = parser.parse_keyword(Keyword::SET);
        }
        parser.parse_comma_separated(|parser| parser.parse_assignment())
    })?;
    let part = |part: &ObjectNamePart| part.as_ident().map(|ident| ident.value.clone());
    let one = |assignment: &Assignment| {
        let AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err("expected NAME = EXPRESSION, found several names".to_owned());
        };
        let path: Option<Vec<String>> = name.0.iter().map(part).collect();
        Ok((path.ok_or("expected NAME = EXPRESSION")?, node(&assignment.value)?))
    };
    assignments.iter().map(one).collect::<std::result::Result<_, Reason>>().map_err(|why| refused(text, &why))
}

/// Parses `text` with the grammar `parse`, to the end.
fn read_with<T>(text: &str, parse: impl FnOnce(&mut Parser<'_>) -> std::result::Result<T, ParserError>) -> Result<T> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::config(format!(
            "an expression of {} bytes exceeds the maximum of {TEXT_BYTES_MAX}",
            text.len()
        )));
    }
    let mut tokens = Tokenizer::new(&ExpressionDialect, text)
        .tokenize_with_location()
        .map_err(|error| refused(text, &format!("{} at column {}", error.message, error.location.column)))?;
    let words = tokens.iter().filter(|token| is_word(&token.token)).count();
    if words > WORDS_MAX {
        return Err(refused(text, &format!("{words} tokens exceed the maximum of {WORDS_MAX}; use `in (...)`")));
    }
    if let Some(column) = too_deep(&tokens) {
        return Err(refused(text, &format!("nested deeper than {DEPTH_MAX} at column {column}")));
    }
    let written = tokens.clone();
    name_words(&mut tokens);
    let mut parser = Parser::new(&ExpressionDialect).with_tokens_with_locations(tokens);
    let sql = parse(&mut parser).map_err(|error| refused(text, &spoken(&error, &written)))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let place = format!("unexpected `{}` at column {}", brief(&next.token), next.span.start.column);
        return Err(refused(text, &(place + &hint(&written, next.span.start))));
    }
    Ok(sql)
}

/// Returns the column at which the nesting becomes too deep. Brackets, `case` and signs before an operand are levels.
/// The first sign before a bracket is not a level of its own, further signs are.
fn too_deep(tokens: &[TokenWithSpan]) -> Option<u64> {
    let mut open: Vec<usize> = vec![];
    let (mut depth, mut signs) = (0, 0);
    for token in tokens {
        let keyword = if let Token::Word(word) = &token.token { word.keyword } else { Keyword::NoKeyword };
        match &token.token {
            Token::Whitespace(_) => continue,
            token if is_opening(token, keyword) => {
                let levels = std::mem::take(&mut signs).max(1);
                open.push(levels);
                depth += levels;
            }
            token if is_closing(token, keyword) => depth -= open.pop().unwrap_or(0),
            Token::Minus | Token::Plus | Token::Tilde => signs += 1,
            _ if matches!(keyword, Keyword::NOT | Keyword::INTERVAL) => signs += 1,
            _ => signs = 0,
        }
        if depth + signs > DEPTH_MAX {
            return Some(token.span.start.column);
        }
    }
    None
}

fn is_opening(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::LParen | Token::LBracket | Token::LBrace) || keyword == Keyword::CASE
}

fn is_closing(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::RParen | Token::RBracket | Token::RBrace) || keyword == Keyword::END
}

fn is_word(token: &Token) -> bool {
    !matches!(token, Token::Comma | Token::Whitespace(_) | Token::SingleQuotedString(_) | Token::Number(..))
}

/// Returns the word at or before the fault that may be meant as a name but is a keyword of the parser.
fn keyword_at(tokens: &[TokenWithSpan], fault: Location) -> Option<&str> {
    const OURS: [Keyword; 17] = [
        Keyword::AND,
        Keyword::OR,
        Keyword::NOT,
        Keyword::IN,
        Keyword::IS,
        Keyword::NULL,
        Keyword::LIKE,
        Keyword::ILIKE,
        Keyword::BETWEEN,
        Keyword::TRUE,
        Keyword::FALSE,
        Keyword::CAST,
        Keyword::TRY_CAST,
        Keyword::COALESCE,
        Keyword::FILTER,
        Keyword::WHERE,
        Keyword::AS,
    ];
    let is_before = |token: &&TokenWithSpan| token.span.start <= fault;
    let solid = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    Vec::from_iter(solid.take_while(is_before)).iter().rev().take(2).find_map(|token| match &token.token {
        Token::Word(word) if word.quote_style.is_none() && word.keyword != Keyword::NoKeyword => {
            (!OURS.contains(&word.keyword)).then_some(word.value.as_str())
        }
        _ => None,
    })
}

fn hint(tokens: &[TokenWithSpan], fault: Location) -> String {
    let remedy = |word: &str| format!("; {word} is an SQL keyword, quote it if it is a name: \"{word}\"");
    keyword_at(tokens, fault).map_or_else(|| name_hint(tokens, fault).unwrap_or_default(), remedy)
}

/// Returns the hint for a fault that looks like a name with other characters than letters, digits and `_`, or like
/// `AS`.
fn name_hint(tokens: &[TokenWithSpan], fault: Location) -> Option<String> {
    let said = |name: &str| Some(format!("; a name with blanks or signs is written in double quotes: \"{name}\""));
    let is_text = |one: &&TokenWithSpan| !matches!(one.token, Token::Whitespace(_) | Token::EOF);
    let at = tokens.iter().position(|one| one.span.start == fault).unwrap_or(tokens.len());
    let before = tokens[..at].iter().rev().find(is_text);
    match (before.map(|one| &one.token), tokens.get(at).map(|one| &one.token)) {
        (_, Some(Token::Word(word))) if word.value.eq_ignore_ascii_case("as") => {
            Some("; a name stands before its expression: NAME=...".to_owned())
        }
        (Some(Token::Word(first)), Some(Token::Word(second))) if first.quote_style.is_none() => {
            said(&format!("{} {}", first.value, second.value))
        }
        (_, Some(Token::Char(_))) | (Some(Token::Period), None | Some(Token::EOF)) => said("..."),
        _ => None,
    }
}

/// Returns the place that a message of the parser names; the end of the text if it names none.
fn place_in(message: &str) -> Location {
    let end = Location::new(u64::MAX, u64::MAX);
    let place = message.rsplit_once(" at Line: ").and_then(|(_, place)| place.split_once(", Column: "));
    place.and_then(|(line, column)| Some(Location::new(line.parse().ok()?, column.parse().ok()?))).unwrap_or(end)
}

fn spoken(error: &ParserError, tokens: &[TokenWithSpan]) -> String {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
        ParserError::RecursionLimitExceeded => "nested too deeply".to_owned(),
    };
    let fault = place_in(&message);
    // The token that it found may be a long text.
    let message = brief_between(&message, "found: ", " at Line: ");
    let message = message.replacen("Expected:", "expected", 1).replacen("found:", "found", 1);
    let message = message.replacen(" at Line: 1, Column: ", " at column ", 1).replacen("EOF", "the end", 1);
    message + &hint(tokens, fault)
}

fn boxed(sql: &Expr) -> Result<Box<Node>, Reason> {
    node(sql).map(Box::new)
}

fn nodes(sql: &[Expr]) -> Result<Vec<Node>, Reason> {
    sql.iter().map(node).collect()
}

fn node(sql: &Expr) -> Result<Node, Reason> {
    Ok(match sql {
        Expr::Nested(inner) => node(inner)?,
        Expr::Identifier(name) => Node::Name(vec![PathKey::Member(part(name)?)]),
        Expr::CompoundIdentifier(parts) => {
            Node::Name(PathKey::members(&parts.iter().map(part).collect::<Result<Vec<_>, _>>()?))
        }
        Expr::CompoundFieldAccess { root, access_chain } => Node::Name(path(root, access_chain)?),
        Expr::Value(value) => Node::Literal(literal(&value.value)?),
        Expr::TypedString(typed) => time_literal(&typed.data_type, &typed.value.value)?,
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => Node::Not(boxed(expr)?),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => negated(node(expr)?),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => node(expr)?,
        Expr::BinaryOp { left, op, right } => binary(op, left, right)?,
        Expr::IsNull(value) => Node::IsNull { value: boxed(value)?, negated: false },
        Expr::IsNotNull(value) => Node::IsNull { value: boxed(value)?, negated: true },
        Expr::InList { expr, list, negated } => Node::In { value: boxed(expr)?, list: nodes(list)?, negated: *negated },
        Expr::Between { expr, negated, low, high } => {
            Node::Between { value: boxed(expr)?, low: boxed(low)?, high: boxed(high)?, negated: *negated }
        }
        Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
            Node::Like { value: boxed(expr)?, pattern: boxed(pattern)?, negated: *negated, any_case: false }
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
            Node::Like { value: boxed(expr)?, pattern: boxed(pattern)?, negated: *negated, any_case: true }
        }
        Expr::Cast { kind, expr, data_type, array: false, format: None } => cast(kind, expr, data_type)?,
        other => special(other)?,
    })
}

/// Converts syntax forms with a special grammar, and refuses everything else.
fn special(sql: &Expr) -> Result<Node, Reason> {
    Ok(match sql {
        Expr::Case { operand, conditions, else_result, .. } => Node::Case {
            operand: operand.as_deref().map(boxed).transpose()?,
            branches: conditions
                .iter()
                .map(|when| Ok(Branch { condition: node(&when.condition)?, result: node(&when.result)? }))
                .collect::<Result<_, Reason>>()?,
            otherwise: else_result.as_deref().map(boxed).transpose()?,
        },
        Expr::Function(function) => call(function)?,
        Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime) } => {
            named("ceil", vec![node(expr)?])
        }
        Expr::Floor { expr, field: CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime) } => {
            named("floor", vec![node(expr)?])
        }
        Expr::Trim { expr, trim_where: None, trim_what: None, trim_characters: None } => {
            named("trim", vec![node(expr)?])
        }
        Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
            let mut args = vec![node(expr)?, node(from)?];
            args.extend(substring_for.as_deref().map(node).transpose()?);
            named("substr", args)
        }
        other => return Err(format!("unsupported syntax `{}`; evt-metrics(5) describes expressions", brief(other))),
    })
}

/// Converts a name with elements of arrays: `items[1].price`.
fn path(root: &Expr, steps: &[AccessExpr]) -> Result<Vec<PathKey>, Reason> {
    let Node::Name(mut path) = node(root)? else {
        return Err(format!("expected an element of a property, like items[1], found `{}[…]`", brief(root)));
    };
    for step in steps {
        path.push(match step {
            AccessExpr::Dot(Expr::Identifier(name)) => PathKey::Member(part(name)?),
            AccessExpr::Subscript(Subscript::Index { index }) => match literal_number(&node(index)?) {
                Some(position) if position.trunc() == position && position != 0.0 && position.abs() < 1e9 => {
                    PathKey::Element(position as i64)
                }
                _ => {
                    return Err(format!("expected a position from 1, or from -1 at the end, found [{}]", brief(index)));
                }
            },
            other => {
                let why = "an element is items[1], a member items.price";
                return Err(format!("unsupported syntax `{}`; {why}", brief(other)));
            }
        });
    }
    Ok(path)
}

fn named(name: &str, args: Vec<Node>) -> Node {
    Node::Call { name: name.to_owned(), args }
}

fn part(name: &Ident) -> Result<String, Reason> {
    match name.quote_style {
        None | Some('"') => Ok(name.value.clone()),
        Some(quote) => Err(format!("expected a name, found {quote}{}{quote}; names are quoted with \"", name.value)),
    }
}

fn literal(value: &Value) -> Result<Literal, Reason> {
    match value {
        Value::Null => Ok(Literal::Null),
        Value::Boolean(truth) => Ok(Literal::Bool(*truth)),
        Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
        Value::Number(text, false) => match text.parse::<f64>() {
            Ok(number) if number > INTEGER_MAX && text.bytes().all(|byte| byte.is_ascii_digit()) => Err(format!(
                "numbers are doubles, which are not exact beyond {INTEGER_MAX}, found {text}; '{text}' compares texts, {text}.0 \
                 compares doubles"
            )),
            Ok(number) if number.is_finite() => Ok(Literal::Number(number)),
            _ => Err(format!("expected a number in the range of a double, found {text}")),
        },
        other => Err(format!("unsupported literal {other}; text is written '...', a name \"...\"")),
    }
}

fn time_literal(data_type: &DataType, value: &Value) -> Result<Node, Reason> {
    let (DataType::Timestamp(..), Value::SingleQuotedString(text)) = (data_type, value) else {
        return Err(format!("expected timestamp '2024-01-15T10:00:00Z', found {data_type} {value}"));
    };
    match read_iso(text, None).ok() {
        Some(micros) => Ok(Node::Literal(Literal::Time(micros))),
        None => Err(format!("expected a time like 2024-01-15T10:00:00Z or 2024-01-15, found '{text}'")),
    }
}

fn negated(node: Node) -> Node {
    match node {
        Node::Literal(Literal::Number(number)) => Node::Literal(Literal::Number(-number)),
        other => Node::Negate(Box::new(other)),
    }
}

fn binary(op: &BinaryOperator, left: &Expr, right: &Expr) -> Result<Node, Reason> {
    let operator = match op {
        BinaryOperator::And => Operator::And,
        BinaryOperator::Or => Operator::Or,
        BinaryOperator::Eq => Operator::Equal,
        BinaryOperator::NotEq => Operator::NotEqual,
        BinaryOperator::Lt => Operator::Less,
        BinaryOperator::LtEq => Operator::LessEqual,
        BinaryOperator::Gt => Operator::Greater,
        BinaryOperator::GtEq => Operator::GreaterEqual,
        BinaryOperator::Plus => Operator::Add,
        BinaryOperator::Minus => Operator::Subtract,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Remainder,
        BinaryOperator::StringConcat => Operator::Concat,
        BinaryOperator::PGRegexMatch | BinaryOperator::PGRegexNotMatch => {
            let negated = *op == BinaryOperator::PGRegexNotMatch;
            return Ok(Node::Match { value: boxed(left)?, pattern: boxed(right)?, negated });
        }
        other => return Err(format!("unsupported operator {other}")),
    };
    Ok(Node::Binary(operator, boxed(left)?, boxed(right)?))
}

fn cast(cast: &CastKind, value: &Expr, data_type: &DataType) -> Result<Node, Reason> {
    let kind = match data_type {
        DataType::Double(_) | DataType::DoublePrecision | DataType::Float64 => ValueKind::Number,
        DataType::Text | DataType::Varchar(None) => ValueKind::Text,
        DataType::Boolean | DataType::Bool => ValueKind::Bool,
        DataType::Timestamp(..) => ValueKind::Time,
        other => return Err(format!("expected a cast to double, text, boolean or timestamp, found {other}")),
    };
    let lenient = matches!(cast, CastKind::TryCast);
    match cast {
        CastKind::Cast | CastKind::DoubleColon | CastKind::TryCast => {
            Ok(Node::Cast { value: boxed(value)?, kind, lenient })
        }
        CastKind::SafeCast => Err("unsupported function safe_cast; use try_cast".to_owned()),
    }
}

fn call(function: &Function) -> Result<Node, Reason> {
    let WrittenCall { name, star, is_distinct, args, filter } = written(function)?;
    if star || is_distinct || filter.is_some() {
        return Err(format!("{name}(...) is not an aggregate here; *, distinct and filter are not allowed"));
    }
    match name.as_str() {
        "coalesce" if !args.is_empty() => Ok(Node::Coalesce(args)),
        _ => Ok(Node::Call { name, args }),
    }
}

fn written(function: &Function) -> Result<WrittenCall, Reason> {
    let name = function.name.to_string().to_ascii_lowercase();
    let plain = function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && function.parameters == FunctionArguments::None;
    let FunctionArguments::List(list) = &function.args else {
        return Err(format!("{name}: expected arguments in parentheses"));
    };
    let is_distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
    if !plain || !list.clauses.is_empty() {
        return Err(format!("{name}(...): only arguments and filter (where ...) are supported"));
    }
    let filter = function.filter.as_deref().map(node).transpose()?;
    let star = matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
    let args = if star { vec![] } else { list.args.iter().map(argument).collect::<Result<_, _>>()? };
    Ok(WrittenCall { name, star, is_distinct, args, filter })
}

fn argument(argument: &FunctionArg) -> Result<Node, Reason> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(sql)) => node(sql),
        other => Err(format!("unsupported argument `{}`", brief(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nested_too_deeply_is_refused_at_once_and_nothing_else_is() {
        // Without optimisation, so many levels need more stack than a test's thread has.
        let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(try_all_shapes);
        thread.unwrap().join().unwrap();
    }

    fn try_all_shapes() {
        let why = |text: &str| parse(text).err().map_or(String::new(), |error| error.to_string());
        let wrap =
            |n: usize, open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
        let shapes = [
            ("(", "x = 1", ")"),
            ("not (", "x = 1", ")"),
            ("not not (", "x = 1", ")"),
            ("not ", "x = 1", ""),
            ("case when ", "x = 1", " then true else false end"),
            ("cast(", "x = 1", " as boolean)"),
            ("coalesce(", "x = 1", ", true)"),
            ("array[", "x", "]"),
            ("(1, ", "x", ")"),
            ("- ", "x", ""),
            ("interval ", "x", ""),
        ];
        let began = std::time::Instant::now();
        for (open, inner, close) in shapes {
            for n in [31, 50, 300] {
                let message = why(&wrap(n, open, inner, close));
                assert!(
                    message.contains("nested deeper than 30 at column") || message.contains("tokens exceed"),
                    "{message}"
                );
            }
            // An error at the maximum depth is reported just as fast.
            for n in [15, 30] {
                why(&wrap(n, open, "x = = 1", close));
            }
        }
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        for (open, inner, close) in &shapes[..1] {
            assert!(parse(&wrap(30, open, inner, close)).is_ok(), "{open}");
        }
        for (open, inner, close) in &shapes[..7] {
            assert!(parse(&wrap(12, open, inner, close)).is_ok(), "{open}: {}", why(&wrap(12, open, inner, close)));
        }
        for word in ["case", "trim", "array", "cast", "floor", "position"] {
            assert!(parse(&format!("{word} = 1 and {word} is null and ({word} > 2)")).is_ok(), "{word}");
        }
        let flat =
            vec!["x is not null and not (y = -1) and not case when z then true else false end"; 40].join(" and ");
        assert!(parse(&flat).is_ok());
    }
}
