//! The words of texts, also compared with those that the shell of the system reads.

use super::*;
use crate::test_cases::cases;
use proptest::prelude::*;
use std::process::Command;

/// The variables of the tests. A shell would split `B` unless it is quoted, and remove `EMPTY`.
const VARIABLES: [(&str, &str); 3] = [("A", "a-1"), ("B", " b *  c"), ("EMPTY", "")];

fn read(text: &str) -> Result<Vec<Vec<String>>> {
    let value = |name: &str| VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let stages = parse(text, PipelineReading { variable: &value, fault: ErrorKind::Usage })?;
    let words = |stage: StageText| stage.words.into_iter().map(|word| word.into_string().unwrap()).collect();
    Ok(stages.into_iter().map(words).collect())
}

#[test]
fn stages_have_the_words_of_a_shell() {
    for (text, expected) in [
        ("evt-view a", vec![vec!["evt-view", "a"]]),
        ("a|b", vec![vec!["a"], vec!["b"]]),
        ("a 'x | y' | \tb \"\" ''", vec![vec!["a", "x | y"], vec!["b", "", ""]]),
        ("a \\\n  b |\n\n # c\n d", vec![vec!["a", "b"], vec!["d"]]),
        ("# the first\n\na # 'x\n# the last", vec![vec!["a"]]),
        ("a b#c x=? {env:X}", vec![vec!["a", "b#c", "x=?", "{env:X}"]]),
        ("a $A${A}b\"$B\"$B", vec![vec!["a", "a-1a-1b b *  c b *  c"]]),
        ("a $EMPTY x", vec![vec!["a", "", "x"]]),
        ("a \"\\$A \\x \\\"\\\\ $ '$'\" '$A'", vec![vec!["a", "$A \\x \"\\ $ '$'", "$A"]]),
        ("a \\* \\  \\'", vec![vec!["a", "*", " ", "'"]]),
        ("a \"x\\\ny\" 'x\ny'", vec![vec!["a", "xy", "x\ny"]]),
    ] {
        assert_eq!(read(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_a_shell_would_do_something_with_is_refused_with_its_place() {
    for (text, expected) in [
        ("a & b", "line 1, column 3: found & outside of quotes"),
        ("a\\\n b*", "line 2, column 3: found * outside of quotes"),
        ("a x[0]", "line 1, column 4: found [ outside of quotes"),
        ("a ~/x", "line 1, column 3: found ~ outside of quotes"),
        ("a $(x)", "line 1, column 3: expected the name of a variable after $, found ("),
        ("a \"$(x)\"", "line 1, column 4: expected the name of a variable after $, found ("),
        ("a (b)", "line 1, column 3: found ( outside of quotes"),
        ("a > b", "line 1, column 3: found > outside of quotes"),
        ("a <b", "line 1, column 3: found < outside of quotes"),
        ("a; b", "line 1, column 2: found ; outside of quotes"),
        ("é `b`", "line 1, column 3: found ` outside of quotes"),
        ("a \"`b`\"", "line 1, column 4: found ` in double quotes"),
        ("a 'b", "line 1, column 3: expected the ' that ends the quoted text"),
        ("a \"b", "line 1, column 3: expected the \" that ends the quoted text"),
        ("a \\", "line 1, column 3: expected a character after \\"),
        ("a ${B:-x}", "line 1, column 3: expected ${NAME}"),
        ("a ${1}", "line 1, column 3: expected ${NAME}"),
        ("a $1", "line 1, column 3: expected the name of a variable after $, found 1"),
        ("a || b", "line 1, column 4: expected a stage"),
        ("a |", "line 1, column 4: expected a stage"),
        ("", "line 1, column 1: expected a stage"),
        ("| a", "line 1, column 1: expected a stage"),
        ("a\nb", "line 2, column 1: expected one pipeline, found another line"),
        ("a\n| b", "line 2, column 1: expected one pipeline, found another line"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{text}: {error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
    }
}

#[test]
fn an_unset_variable_is_a_fault_of_the_configuration() {
    let error = read("a |\nb \"${NOT_SET}\"").unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 4: the variable NOT_SET is not set");
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Returns the words that a shell passes to a command; `None` if it refuses the text.
fn words_of_shell(text: &str) -> Option<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let run = Command::new("sh")
        .args(["-c", &format!("printf '%s\\0' {text}")])
        .env_clear()
        .envs(VARIABLES)
        .current_dir(&directory)
        .output()
        .unwrap();
    let words = String::from_utf8(run.stdout).unwrap();
    run.status.success().then(|| words.split_terminator('\0').map(str::to_owned).collect())
}

/// Parts of texts. A shell neither splits nor replaces the value of the variable.
#[rustfmt::skip]
const PARTS: &[&str] = &[
    " ", " ", "\t", "a", "b", "é", "-", "=", "?x", "{", "}", ":", ",", "%", "!", "/", "#", "]", ".", "^", "$", "*",
    "'", "\"", "\\", "'# |'", "'&'", "\"; \\\\x\"", "\"' $ \\`\"", "\\\"", "\\$", "\\'", "\\*", "$A", "${A}", "\"$A\"",
    "\"\\\n\"", "\\\n", " #c\n", " \\ ", "''", "\"\"",
];

proptest! {
    #![proptest_config(cases(1000))]

    /// A stage has the words that a shell reads in its text, if both accept it.
    #[test]
    fn words_are_those_of_the_shell(parts in prop::collection::vec(prop::sample::select(PARTS), 1..10)) {
        let text = parts.concat();
        // To start a shell takes longer than all else.
        if let Ok(stages) = read(&text)
            && let Some(words) = words_of_shell(&text)
        {
            prop_assert_eq!(&stages, &vec![words], "{}", text);
        }
    }
}
