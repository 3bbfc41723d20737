//! The correction of stored windows: which cells are right, and which stored cells differ. No I/O and no clock.
//!
//! A *cell* is one row of a metric: the result of one window for one set of dimensions.
//!
//! ```text
//! right cells ─┐                                     ┌─ only right: insert
//!              ├─► difference, within scope ─► change ├─ both, different: replace by the next revision
//! stored cells ┘                                     └─ only stored: retract, if input_times and missing allow it
//! ```
//!
//! - `cell.rs`: cells; `difference.rs`: the difference between right and stored ones.
//! - `scope.rs`: the cells that a correction covers.
//! - `input_times.rs`: which stored cells the input can correct, by its event times; `instants.rs`: sets of them.
//! - `missing.rs`: events that the input may not hold, and the stored cells that may count them.
//! - `late_cells.rs`: cells that count their late events; `session.rs`: sessions that do.
//! - `plan.rs`: what these sessions change in a step of a correction.
//! - `change.rs`: differences as rows.

mod cell;
mod change;
mod difference;
mod input_times;
mod instants;
mod late_cells;
mod missing;
mod plan;
mod scope;
mod session;

pub use cell::{CellContent, CellKey, Change, SessionCells, StoredCell};
pub use change::Changes;
pub use difference::{Comparison, Difference, StoredCells};
pub use input_times::{Coverage, InputTimes, Orphan};
pub use late_cells::{EventOfMetric, LateCell, LateCells, MetricNames, NamedSession};
pub use missing::MissingEvents;
pub use plan::{SessionPlan, StepScope};
pub use scope::{MetricScope, Scope};
pub use session::NameOrigin;
