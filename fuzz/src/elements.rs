//! `--explode`: however the input is cut into chunks, the elements are the same, and those of a JSON document are
//! serde_json's.

use super::cuts::{Cuts, chosen};
use super::text::split;
use evt_core::format::elements::{ElementPath, Elements};
use serde_json::Value;

/// The first byte decides how the rest is cut; the first line is the path.
pub fn run(input: &[u8]) {
    let Some((seed, input)) = chosen(input) else { return };
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Ok(path) = ElementPath::parse(&String::from_utf8_lossy(&input[..end])) else { return };
    let names: Vec<String> = String::from_utf8_lossy(&input[..end]).split('.').map(str::to_owned).collect();
    let names = if names.iter().all(String::is_empty) { vec![] } else { names };
    let input = &input[input.len().min(end + 1)..];
    let splitter = || Elements::new(path.clone());
    let whole = split(&mut splitter(), input, |most| most).expect("text is never an error");
    let mut cuts = Cuts::new(seed);
    assert_eq!(split(&mut splitter(), input, |most| cuts.next(most)).as_ref(), Ok(&whole));
    assert_eq!(split(&mut splitter(), input, |_| 1).as_ref(), Ok(&whole), "byte by byte");
    assert!(whole.iter().zip(1..).all(|((line, ..), number)| *line == number), "records are numbered");
    if let Ok(document @ (Value::Object(_) | Value::Array(_))) = serde_json::from_slice(input) {
        let mut wanted = 0;
        count(&document, &names, &mut wanted);
        let found = whole.iter().filter(|(_, raw, _)| !raw.is_empty()).count();
        // serde_json keeps the last of two members of one name; evt reads the elements of both.
        assert!(found >= wanted, "expected {wanted} elements, found {found}");
    }
}

/// Counts the elements of the arrays at a path.
fn count(value: &Value, path: &[String], elements: &mut usize) {
    match (value, path.split_first()) {
        (Value::Array(items), None) => *elements += items.len(),
        (Value::Array(items), Some(_)) => items.iter().for_each(|item| count(item, path, elements)),
        (Value::Object(members), Some((name, rest))) => {
            members.get(name).into_iter().for_each(|value| count(value, rest, elements));
        }
        _ => {}
    }
}
