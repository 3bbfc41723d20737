//! Tests of plans: what a URI means before anything is written, and what is rejected then.

use super::{Identity, OutputPlan, OutputSpec, Overwrite};
use crate::output::test_data::{letters, run, spec};
use arrow::datatypes::Schema;
use evt_core::error::{ErrorKind, Result};
use evt_core::format::{frames, jsonl};
use evt_core::frame::{End, EndReason};
use evt_core::kind::Kind;
use evt_run::clock::Clock;
use evt_run::run::Run;
use evt_run::run::io::Io;
use evt_run::storage::disk::Disk;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

fn simulated() -> Rc<Run> {
    run(Disk::default(), Clock::Fixed(0))
}

/// The results of the methods of a plan.
#[derive(Debug, Default, PartialEq)]
struct Says {
    format: Option<&'static str>,
    is_null: bool,
    is_stream: bool,
    is_text: bool,
    is_framed: bool,
    takes_any_columns: bool,
    takes_headers: bool,
    needs_raw: bool,
    acknowledges: bool,
    replaces: bool,
    has_identity: bool,
}

impl Says {
    fn of(plan: &OutputPlan) -> Self {
        Self {
            format: plan.format().map(|format| format.name),
            is_null: plan.is_null(),
            is_stream: plan.is_stream(),
            is_text: plan.is_text(),
            is_framed: plan.is_framed(),
            takes_any_columns: plan.takes_any_columns(),
            takes_headers: plan.takes_headers(),
            needs_raw: plan.needs_raw(),
            acknowledges: plan.acknowledges(),
            replaces: plan.replaces(),
            has_identity: plan.identity(&Io::Process).is_some(),
        }
    }
}

fn plan(text: &str, spec: &OutputSpec) -> Result<OutputPlan> {
    OutputPlan::try_new(text, spec, &simulated())
}

#[test]
fn a_plan_knows_what_its_uri_means_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let file = Says { takes_any_columns: true, has_identity: true, ..Says::default() };
    let topic = Says { takes_headers: true, acknowledges: true, has_identity: true, ..Says::default() };
    for (uri, expected) in [
        ("null:".to_owned(), Says { is_null: true, takes_any_columns: true, acknowledges: true, ..Says::default() }),
        (format!("{shown}/a.jsonl"), Says { format: Some("jsonl"), acknowledges: true, ..file }),
        (format!("{shown}/a.parquet"), Says { format: Some("parquet"), acknowledges: false, ..file }),
        (
            format!("{shown}/no-extension"),
            Says { format: Some("frames"), acknowledges: false, takes_any_columns: false, ..file },
        ),
        ("-".to_owned(), Says { format: Some("frames"), is_stream: true, has_identity: true, ..Says::default() }),
        (format!("sqlite:{shown}/m.db"), Says { acknowledges: true, ..Says::default() }),
        (format!("parquet:{shown}/lake"), Says { has_identity: true, ..Says::default() }),
        (format!("parquet:{shown}/lake?mode=replace"), Says { replaces: true, has_identity: true, ..Says::default() }),
        ("kafka://h:1/t?format=frames".to_owned(), Says { is_framed: true, takes_headers: false, ..topic }),
        ("kafka://h:1/t".to_owned(), topic),
    ] {
        let plan = plan(&uri, &spec(&frames::FORMAT)).unwrap();
        assert_eq!(Says::of(&plan), expected, "{uri}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was created");
}

#[test]
fn what_cannot_be_written_is_rejected_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("there.parquet"), "x").unwrap();
    let shown = dir.path().display();
    for (uri, said) in [
        ("http://h:1".to_owned(), "an input of evt-ingest, not an output"),
        (format!("{shown}/a.xyz"), "unknown extension; use -o FORMAT or one of .jsonl"),
        (format!("{shown}/a.parquet?columns=some"), "columns"),
        (format!("{shown}/a.parquet?rows=1"), "unknown option 'rows'; expected columns"),
        (format!("{shown}/there.parquet"), "--overwrite"),
    ] {
        let error = plan(&uri, &spec(&jsonl::FORMAT)).err().unwrap_or_else(|| panic!("{uri} is a plan"));
        assert_eq!(error.kind(), ErrorKind::Usage, "{uri}: {error}");
        assert!(error.to_string().contains(said), "{uri}: {error}");
    }
    let overwrite = OutputSpec { overwrite: Overwrite::On, ..spec(&jsonl::FORMAT) };
    plan(&format!("{shown}/there.parquet"), &overwrite).unwrap();
    assert_eq!(std::fs::read(dir.path().join("there.parquet")).unwrap(), b"x");
}

#[test]
fn epochs_need_an_output_that_can_continue() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let (plain, control) = (spec(&jsonl::FORMAT), OutputSpec { control: true, ..spec(&jsonl::FORMAT) });
    for (uri, spec, said) in [
        ("null:".to_owned(), &plain, ""),
        ("-".to_owned(), &plain, ""),
        (format!("{shown}/a.jsonl"), &plain, ""),
        (format!("sqlite:{shown}/m.db"), &plain, ""),
        ("kafka://h:1/t?format=json".to_owned(), &plain, ""),
        ("kafka://h:1/t?format=frames".to_owned(), &plain, "expected format=json or format=avro"),
        (format!("{shown}/a.parquet"), &plain, "found one that is replaced at the end of a run"),
        (format!("{shown}/a.arrows"), &plain, "found a file of frames"),
        ("s3://bucket/a.jsonl?region=r".to_owned(), &plain, "expected a prefix that ends in /"),
        ("s3://bucket/a/?region=r".to_owned(), &plain, ""),
        ("s3://bucket/a/*.csv.gz?region=r".to_owned(), &plain, ""),
        (format!("{shown}/a.jsonl"), &control, "--control cannot be used"),
        (format!("parquet:{shown}/lake"), &plain, ""),
        (format!("parquet:{shown}/lake?mode=replace"), &plain, "expected mode=append, found mode=replace"),
    ] {
        let checked = plan(&uri, spec).unwrap().check_epochs(&simulated().io);
        match checked {
            Ok(()) => assert_eq!(said, "", "{uri} is accepted"),
            Err(error) => assert!(!said.is_empty() && error.to_string().contains(said), "{uri}: {error}"),
        }
    }
}

#[test]
fn transactions_belong_to_tools_that_commit_them() {
    let uri = "kafka://h:1/t?format=json&exactly_once=true";
    let plan = plan(uri, &spec(&frames::FORMAT)).unwrap();
    assert!(plan.is_exactly_once());
    let error = plan.open(&Kind::Event.schema(), &simulated()).err().unwrap();
    assert!(
        error.kind() == ErrorKind::Usage
            && error.to_string().contains("found a tool that does not commit offsets with its rows"),
        "{error}"
    );
}

#[test]
fn two_names_of_one_file_have_one_identity() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
    let identity =
        |path: &Path| plan(path.to_str().unwrap(), &spec(&jsonl::FORMAT)).unwrap().identity(&Io::Process).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(identity(&path), Identity::Name(_)));
    assert_eq!(identity(&path), identity(&link), "before it exists");
    std::fs::write(&path, "").unwrap();
    assert!(matches!(identity(&path), Identity::Inode { .. }));
    assert_eq!(identity(&path), identity(&link));
    assert_ne!(identity(&path), identity(&dir.path().join("c.jsonl")));
}

#[test]
fn a_store_rejects_rows_of_a_kind_that_it_does_not_hold_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("parquet:{}", dir.path().join("lake").display());
    let unknown = Arc::new(Schema::new(letters(["x"]).schema().fields().clone()));
    let error = plan(&uri, &spec(&jsonl::FORMAT)).unwrap().open(&unknown, &simulated()).err().unwrap();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("expected rows of a known kind"), "{error}");
    let output = plan("null:", &spec(&jsonl::FORMAT)).unwrap().open(&unknown, &simulated()).unwrap();
    output.finish(&End { how: EndReason::Exhausted, rows: 0, verdict: 0 }).unwrap();
}
