//! Whether tests run in CI: nothing may be skipped there. The tests through the binaries use this file too.

/// Whether `CI` is set to something other than `false`.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value != "false" && !value.is_empty())
}
