//! Where data is kept: the disk of a run.
//!
//! - `disk.rs`: changes and syncs files; also a simulated disk that fails. `access.rs`: checks what can be written.

pub mod access;
pub mod disk;
