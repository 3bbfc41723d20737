//! The blocks of README and man pages, and the table of the tests that run each of them.

use crate::harness::ROOT;
use evt::tool;
use std::collections::BTreeMap;
use std::path::Path;

/// The text of a file of the checkout.
pub fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The blocks of a section of a document, in order: between lines of three backquotes in Markdown, between `.nf` and
/// `.fi` (or `.EX` and `.EE`) in a man page, there as `man` shows them.
pub fn blocks(document: &str, section: &str) -> Vec<String> {
    sections(document).remove(section).unwrap_or_else(|| panic!("{document} has no blocks in {section}"))
}

/// The blocks of a document by section; those before the first heading are in the section with the empty name.
fn sections(document: &str) -> BTreeMap<String, Vec<String>> {
    let is_page = Path::new(document).extension().is_none_or(|end| end != "md");
    let (mut found, mut section, mut block) = (BTreeMap::<String, Vec<String>>::new(), String::new(), None);
    for line in read(document).lines() {
        let (begins, ends) = if is_page {
            ([".nf", ".EX"].contains(&line), [".fi", ".EE"].contains(&line))
        } else {
            (line.starts_with("```"), line == "```")
        };
        match &mut block {
            Some(_) if ends => found.entry(section.clone()).or_default().extend(block.take()),
            Some(text) => *text += &format!("{}\n", if is_page { shown(line) } else { line.to_owned() }),
            None if begins => block = Some(String::new()),
            None => {
                if let Some(name) = line.strip_prefix(if is_page { ".SH " } else { "## " }) {
                    name.trim_matches('"').clone_into(&mut section);
                }
            }
        }
    }
    assert!(block.is_none(), "{document}: a block without an end");
    found
}

/// A line of a man page as `man` shows it.
fn shown(line: &str) -> String {
    let fonts = regex::Regex::new(r"\\f[BIR]").expect("a pattern");
    fonts.replace_all(line, "").replace("\\(aq", "'").replace("\\-", "-").replace("\\e", "\\")
}

/// A command of a block with prompts, and the output that the block shows below it.
pub struct Typed {
    pub command: String,
    pub output: String,
}

/// The commands of a block in which each begins behind `$ `; a line that ends with a backslash continues in the next
/// one, and so does an open quotation.
pub fn typed(block: &str) -> Vec<Typed> {
    let mut found: Vec<Typed> = vec![];
    let mut continues = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Typed { command: command.to_owned(), output: String::new() });
        } else {
            let last = found.last_mut().expect("a block begins with a command");
            let text = if continues { &mut last.command } else { &mut last.output };
            *text += &format!("\n{line}");
        }
        continues = line.ends_with('\\') && found.last().is_some_and(|last| last.output.is_empty());
    }
    found
}

/// The commands with flags in the text of a section of README, which are between single backquotes.
pub fn inline(document: &str, section: &str) -> Vec<String> {
    let text = read(document);
    let (_, rest) = text.split_once(&format!("## {section}\n")).expect("the section");
    let text: Vec<&str> = rest.split("\n## ").next().unwrap_or(rest).split("```").step_by(2).collect();
    let text = text.join("");
    let spans = text.split('`').skip(1).step_by(2).filter(|span| span.starts_with("evt-") && span.contains(" --"));
    spans.map(|span| span.replace('\n', " ")).collect()
}

/// How the blocks of a section are tested.
enum Tested {
    /// These tests of `tests/cli` (`FILE::TEST`) read the section and run, or check, all of its blocks.
    By(&'static [&'static str]),
    /// There is nothing to run, for this reason.
    Not(&'static str),
}

use Tested::{By, Not};

/// A section with blocks.
struct Row {
    document: &'static str,
    section: &'static str,
    blocks: usize,
    tested: Tested,
}

const fn row(document: &'static str, section: &'static str, blocks: usize, tested: Tested) -> Row {
    Row { document, section, blocks, tested }
}

const EXAMPLES: &str = "docs::every_example_of_a_man_page_works_as_written";
const DAILY: [&str; 2] = [
    "docs::the_daily_jobs_of_the_manual_count_each_event_once_whatever_the_pieces",
    "docs::the_daily_jobs_with_a_checkpoint_count_each_event_once_or_call_it_late",
];
const COLUMNS: &str = "man::the_page_of_frames_lists_every_column_and_control_message";

/// Every section of README and the man pages with blocks, but for `EXAMPLES` of the pages of tools, which are the
/// examples of `Tool`, and for their other sections, which are those of `man/about`.
const ROWS: &[Row] = &[
    row("README.md", "", 1, Not("it is a drawing of the tools")),
    row(
        "README.md",
        "Two commands",
        2,
        By(&[
            "docs::the_two_commands_are_there_and_tested",
            "docs::the_lines_that_install_pages_and_completions_work_for_a_new_user",
        ]),
    ),
    row("README.md", "Thirteen one-liners", 1, By(&["docs::every_one_liner_of_the_readme_works_as_written"])),
    row("README.md", "Over HTTP", 1, By(&["docs_servers::events_over_http_get_the_answer_that_the_readme_shows"])),
    row("README.md", "Through Kafka", 1, By(&["docs_servers::the_pipe_of_the_readme_through_kafka_fills_both_stores"])),
    row(
        "README.md",
        "Exactly once",
        1,
        By(&[
            "docs_loops::the_loop_of_the_readme_counts_each_event_once",
            "docs_loops::the_other_commands_of_the_readme_with_a_checkpoint_continue_where_they_were",
        ]),
    ),
    row("README.md", "Alerts, proof and repair", 1, By(&["docs_servers::the_readme_s_alerts_proofs_and_repairs_work"])),
    row(
        "README.md",
        "As services",
        1,
        By(&["docs_files::the_lines_that_install_services_install_all_that_these_need"]),
    ),
    row("man/about/evt-alert", "", 1, By(&["docs_files::the_line_of_cron_mails_alerts_of_a_log_that_grows"])),
    row("man/about/evt-backfill", "", 2, By(&["docs_servers::corrections_reach_redis_and_the_nightly_line_is_silent"])),
    row("man/about/evt-lake", "", 1, By(&["iceberg::the_lines_of_cron_keep_a_warehouse_in_order"])),
    row(
        "man/about/evt-ingest",
        "",
        2,
        By(&["docs_files::each_path_of_the_http_server_answers", "docs_files::the_file_of_tokens_is_valid"]),
    ),
    row(
        "man/about/evt-reconcile",
        "CRON",
        1,
        By(&["docs_servers::the_crontab_of_evt_reconcile_is_silent_if_all_is_well"]),
    ),
    row("man/evt-channels.5", "DESCRIPTION", 1, By(&["docs_files::the_file_of_channels_is_valid"])),
    row(
        "man/evt-checkpoint.5",
        "PIPES",
        2,
        By(&["docs_loops::both_pipes_of_the_page_of_checkpoints_count_each_event_once"]),
    ),
    row("man/evt-checkpoint.5", "BUCKETS", 2, By(&["docs_loops::the_checkpoint_in_a_bucket_is_continued_and_shown"])),
    row(
        "man/evt-checkpoint.5",
        "LAYOUTS",
        13,
        By(&["checkpoint_layout::the_files_of_a_checkpoint_have_the_bytes_of_the_manual"]),
    ),
    row("man/evt-checkpoint.5", "EXAMPLE", 2, By(&["docs_files::the_job_of_each_day_carries_open_windows_over"])),
    row("man/evt-frame.5", "COLUMNS", 5, By(&[COLUMNS])),
    row(
        "man/evt-metrics.5",
        "DESCRIPTION",
        1,
        By(&["docs_files::the_file_of_metrics_gives_the_revenue_of_each_country"]),
    ),
    row("man/evt-registry.5", "DESCRIPTION", 1, By(&["docs_files::the_registry_has_the_layout_of_its_page"])),
    row("man/evt-rules.5", "DESCRIPTION", 1, By(&["docs::the_rule_of_evt_rules_passes_the_test_of_the_same_page"])),
    row("man/evt-rules.5", "SPARSE DATA", 1, By(&["docs_files::the_rule_of_a_silent_source_ends_a_day_later"])),
    row("man/evt-rules.5", "TESTS", 1, By(&["docs::the_rule_of_evt_rules_passes_the_test_of_the_same_page"])),
    row("man/evt-lake.7", "BRONZE", 1, By(&["iceberg::the_three_steps_of_the_page_are_a_lake"])),
    row("man/evt-lake.7", "SILVER", 1, By(&["iceberg::the_three_steps_of_the_page_are_a_lake"])),
    row("man/evt-lake.7", "GOLD", 1, By(&["iceberg::the_three_steps_of_the_page_are_a_lake"])),
    row("man/evt-lake.7", "CORRECTIONS", 1, By(&["iceberg::the_three_steps_of_the_page_are_a_lake"])),
    row("man/evt-lake.7", "TIME TRAVEL", 1, By(&["iceberg::the_three_steps_of_the_page_are_a_lake"])),
    row("man/evt-lake.7", "RETENTION", 1, By(&["iceberg::the_three_steps_of_the_page_are_a_lake"])),
    row("man/evt-runbook.7", "DEAD LETTERS SPIKE", 3, By(&["runbooks::dead_letters_spike"])),
    row(
        "man/evt-runbook.7",
        "A SCHEMA CHANGED WITHOUT REGISTRATION",
        5,
        By(&["runbooks::a_schema_changed_without_registration"]),
    ),
    row("man/evt-runbook.7", "A POISON RECORD", 3, By(&["runbooks::a_poison_record"])),
    row("man/evt-runbook.7", "THE WATERMARK DOES NOT ADVANCE", 2, By(&["runbooks::the_watermark_stands_still"])),
    row("man/evt-runbook.7", "LAG GROWS", 1, By(&["runbooks::lag_grows"])),
    row("man/evt-runbook.7", "COUNTS DIFFER", 4, By(&["runbooks::counts_differ"])),
    row("man/evt-runbook.7", "DATA ARE STALE", 3, By(&["runbooks::data_are_stale"])),
    row(
        "man/evt-runbook.7",
        "A METRIC WAS WRONG FOR THREE HOURS",
        2,
        By(&["runbooks::a_metric_was_wrong_for_three_hours"]),
    ),
    row("man/evt-runbook.7", "THE DISK IS FULL", 2, By(&["runbooks::the_disk_is_full"])),
    row("man/evt-runbook.7", "A SERVER IS AWAY", 1, By(&["runbooks::a_server_is_away"])),
    row("man/evt-runbook.7", "NO PAGE ARRIVES", 4, By(&["runbooks::no_page_arrives"])),
    row("man/evt-runbook.7", "TOO MANY PAGES", 2, By(&["runbooks::too_many_pages"])),
    row("man/evt.7", "DESCRIPTION", 1, Not("it is a drawing of the tools")),
    row("man/evt.7", "DAILY JOBS", 4, By(&DAILY)),
    row("man/evt.7", "ICEBERG", 2, By(&["iceberg::the_lines_of_the_page_make_tables_that_pyiceberg_opens"])),
    row("man/evt.7", "CATALOGS", 1, By(&["catalogs::the_sections_of_the_page_are_catalogs"])),
    row("man/evt.7", "KAFKA", 1, By(&["docs_loops::a_stage_without_state_commits_its_rows_and_offsets_together"])),
    row("man/evt.7", "SCALING", 1, By(&["flink::a_pipeline_moves_to_flink_and_back_without_a_gap_or_a_double"])),
    row("man/evt.7", "CONFIGURATION", 1, By(&["docs_files::the_configuration_is_that_of_a_pipe"])),
    row(
        "man/evt.7",
        "REPAIR AND REPLAY",
        7,
        By(&[
            "docs::dead_letters_are_repaired_and_replayed_as_the_manual_says",
            "docs_servers::letters_repaired_by_a_program_are_replayed_to_a_topic_once",
        ]),
    ),
];

/// The documents with blocks: README, the man pages and what people write of those of tools.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    for directory in ["man", "man/about"] {
        for entry in std::fs::read_dir(Path::new(ROOT).join(directory)).expect("it is committed") {
            let entry = entry.expect("an entry");
            if entry.path().is_file() {
                found.push(format!("{directory}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 25, "{found:?}");
    found
}

/// The faults of a row: its tests must be tests that name the section.
fn faults_of(row: &Row) -> Vec<String> {
    let tests = match &row.tested {
        Not(reason) => {
            let fault = reason.is_empty().then(|| format!("{}: {}: no reason", row.document, row.section));
            return fault.into_iter().collect();
        }
        By(tests) => *tests,
    };
    let fault = |test: &&str| {
        let (file, name) = test.split_once("::").expect("FILE::TEST");
        let text = read(&format!("tests/cli/{file}.rs"));
        let Some((_, rest)) = text.split_once(&format!("#[test]\nfn {name}() {{\n")) else {
            return Some(format!("{test}: there is no such test"));
        };
        let body = rest.split("\n}\n").next().unwrap_or(rest);
        let wanted = if row.section.is_empty() || *test == COLUMNS { row.document } else { row.section };
        (!body.contains(wanted)).then(|| format!("{test}: it does not read {}: {wanted}", row.document))
    };
    assert!(!tests.is_empty());
    tests.iter().filter_map(fault).collect()
}

#[test]
fn every_block_of_the_documents_has_a_test_that_reads_it() {
    let mut faults = vec![];
    for document in documents() {
        let of_tool = document.strip_prefix("man/").and_then(|name| name.strip_suffix(".1"));
        for (section, found) in sections(&document) {
            let expected = if let Some(name) = of_tool {
                let written = sections(&format!("man/about/{name}"));
                let examples = || tool::ALL.iter().find(|tool| tool.name == name).map(|tool| tool.examples.len());
                match section.as_str() {
                    "EXAMPLES" => examples().unwrap_or_default(),
                    "DESCRIPTION" => written.get("").map_or(0, Vec::len),
                    _ => written.get(&section).map_or(0, Vec::len),
                }
            } else {
                let row = ROWS.iter().find(|row| row.document == document && row.section == section);
                row.map_or(0, |row| row.blocks)
            };
            if found.len() != expected {
                faults.push(format!(
                    "{document}: {section}: {} blocks, of which {expected} are tested (ROWS of tests/cli/documents.rs)",
                    found.len()
                ));
            }
        }
    }
    for row in ROWS {
        if !sections(row.document).contains_key(row.section) {
            faults.push(format!("{}: {}: there are no such blocks", row.document, row.section));
        }
        faults.extend(faults_of(row));
    }
    faults.extend(faults_of(&row("man/evt-*.1", "tool::ALL", 0, By(&[EXAMPLES]))));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
