//! evt-lake: the upkeep of tables of Iceberg.

use crate::cli::Tool;
use crate::cli::args::{CommonArgs, instant_of};
use crate::cli::check::CheckReport;
use crate::output::open_options;
use crate::uri::Uri;
use clap::{Args as Flags, Parser, Subcommand};
use evt_core::error::{Error, Result};
use evt_core::time::parse_duration;
use evt_run::client::Location;
use evt_run::clock::Clock;
use evt_run::metrics;
use evt_run::metrics::ServerStatus;
use evt_run::run::{Run, report_file};
use evt_store::upkeep::{Compaction, Expiry, Keeper, Upkeep};
use serde::Serialize;
use std::fmt::Write as _;
use std::rc::Rc;

/// Describe, compact and clean tables of Iceberg
#[derive(Parser, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: LakeAction,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand, Debug)]
enum LakeAction {
    /// Print rows, files, days, snapshots and last epochs of each table
    Describe {
        /// Describe the tables of iceberg:DIR/, iceberg:CATALOG or iceberg:CATALOG/NAMESPACE.TABLE
        #[arg(value_name = "TABLES")]
        tables: String,
    },
    /// Join the small files of each closed day to files of 128 MiB
    Compact {
        /// Compact the tables of iceberg:DIR/, iceberg:CATALOG or iceberg:CATALOG/NAMESPACE.TABLE
        #[arg(value_name = "TABLES")]
        tables: String,
        /// Compact days that ended at least DURATION ago
        #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_age)]
        closed_after: i64,
        #[command(flatten)]
        keeper: KeeperArgs,
    },
    /// Remove old snapshots, files that nothing names, and old rows
    Expire {
        /// Clean the tables of iceberg:DIR/, iceberg:CATALOG or iceberg:CATALOG/NAMESPACE.TABLE
        #[arg(value_name = "TABLES")]
        tables: String,
        /// Remove snapshots that are older than DURATION, but the present one and those that a branch or tag names
        #[arg(long, value_name = "DURATION", default_value = "5d", value_parser = parse_age)]
        snapshots: i64,
        /// Remove files that nothing names if they are older than DURATION
        #[arg(long, value_name = "DURATION", default_value = "3d", value_parser = parse_age)]
        orphans_older_than: i64,
        /// Remove the rows of days that ended at least DURATION ago [default: all rows stay]
        #[arg(long, value_name = "DURATION", value_parser = parse_age)]
        keep: Option<i64>,
        #[command(flatten)]
        keeper: KeeperArgs,
    },
}

#[derive(Flags, Debug)]
struct KeeperArgs {
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Count ages from this instant, instead of the clock
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    now: Option<String>,
}

fn parse_age(text: &str) -> Result<i64, String> {
    let age = parse_duration(text).map_err(|error| error.to_string())?;
    if age >= 0 { Ok(age) } else { Err("expected a duration of 0s or more".to_owned()) }
}

impl LakeAction {
    fn tables(&self) -> &str {
        match self {
            Self::Describe { tables } | Self::Compact { tables, .. } | Self::Expire { tables, .. } => tables,
        }
    }
}

impl Tool for Args {
    const NAME: &'static str = "evt-lake";
    const USUAL_FLAGS: &'static [&'static str] = &["quiet", "config"];
    const NEGATIVE: &'static str = "Not used.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Describe the tables of a warehouse.", "evt-lake describe iceberg:lake/"),
        ("Join the small files of the days before yesterday.", "evt-lake compact iceberg:lake/"),
        ("Keep a week of snapshots.", "evt-lake expire iceberg:lake/ --snapshots 7d"),
    ];

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        let (upkeep, location) = opened(self.action.tables(), run)?;
        let lines = match &self.action {
            LakeAction::Describe { .. } => lines(&(upkeep.describe)(&location)?)?,
            LakeAction::Compact { closed_after, keeper, .. } => {
                let compaction = Compaction { closed_after: *closed_after };
                lines(&(upkeep.compact)(&location, &compaction, &keeper.keeper(run)?)?)?
            }
            LakeAction::Expire { snapshots, orphans_older_than, keep, keeper, .. } => {
                let expiry = Expiry { snapshots: *snapshots, orphans: *orphans_older_than, keep: *keep };
                lines(&(upkeep.expire)(&location, &expiry, &keeper.keeper(run)?)?)?
            }
        };
        run.io.print(&lines)?;
        if let Some(path) = &self.common.stats {
            let stats = serde_json::json!({
                "tool": Self::NAME,
                "pipeline": run.pipeline,
                "verdict": 0,
                "cpu_seconds": metrics::cpu_seconds(),
            });
            report_file::write(path, &format!("{stats}\n"))?;
        }
        Ok(0)
    }

    /// Checks that the tables can be read; changes nothing.
    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        let tables = self.action.tables();
        let found = opened(tables, run).and_then(|(upkeep, location)| (upkeep.describe)(&location));
        if findings.take(found).is_some() {
            findings.ready(tables);
        }
    }
}

impl KeeperArgs {
    fn keeper(&self, run: &Run) -> Result<Keeper> {
        let options = open_options(run, ServerStatus::default());
        // A snapshot has the time at which it was made, whatever ages are counted from.
        let time = Clock::of_machine();
        let now = instant_of("--now", self.now.as_deref(), time, None)?.unwrap_or(time);
        Ok(Keeper { is_dry: self.dry_run, time, now, disk: options.disk, parallelism: options.parallelism })
    }
}

/// Returns the upkeep of the store of a URI. Errors: exit status 2 for a store without.
fn opened(uri: &str, run: &Run) -> Result<(Upkeep, Location)> {
    match Uri::parse(uri, &run.caller())? {
        Uri::Store(store, location) => match store.upkeep {
            Some(upkeep) => Ok((upkeep, location)),
            None => Err(Error::usage(format!("{location}: expected iceberg:DIR/ or iceberg:CATALOG"))),
        },
        other => Err(Error::usage(format!("{other}: expected iceberg:DIR/ or iceberg:CATALOG"))),
    }
}

/// Returns a line of JSON for each table.
fn lines(tables: &[impl Serialize]) -> Result<String> {
    let mut text = String::new();
    for table in tables {
        let line = serde_json::to_string(table).map_err(|error| Error::broken("a report").because(error))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    Ok(text)
}
