//! The memory that state takes by default.

use std::path::Path;

/// The default bound of state in memory on a machine that has more (bytes).
const BOUND: u64 = 1 << 30;
/// The least bound (bytes), as of `--memory`.
const LEAST: u64 = 8 << 20;
/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Returns the default of `--memory` (bytes): 1 GiB, and at most half of what the control group of the process may
/// have.
pub fn default_memory() -> usize {
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = limit_of(&group, |path| std::fs::read_to_string(Path::new(GROUPS).join(path)).ok());
    let bound = limit.map_or(BOUND, |limit| BOUND.min(limit / 2)).max(LEAST);
    usize::try_from(bound).unwrap_or(usize::MAX)
}

/// Returns the least limit of a control group and those around it (bytes); `None` if there is none. `groups` is
/// `/proc/self/cgroup`, and `read` reads a file below the directory of all groups (cgroup v2).
fn limit_of(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = |group: &Path| read(&group.join("memory.max"))?.trim().parse::<u64>().ok();
    Path::new(group).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_least_of_a_group_and_those_around_it() {
        let limit = |groups: &str| {
            limit_of(groups, |path| match path.to_str()? {
                "memory.max" | "jobs/a/memory.max" => Some("max\n".to_owned()),
                "jobs/memory.max" => Some("268435456\n".to_owned()),
                "jobs/b/memory.max" => Some("1073741824\n".to_owned()),
                _ => None,
            })
        };
        assert_eq!(limit("0::/jobs/a\n"), Some(256 << 20));
        assert_eq!(limit("1:name=systemd:/x\n0::/jobs/b\n"), Some(256 << 20));
        assert_eq!(
            (limit("0::/\n"), limit("0::/other\n"), limit("4:memory:/x\n"), limit("")),
            (None, None, None, None)
        );
    }
}
