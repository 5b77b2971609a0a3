use std::fs;
use std::path::{Path, PathBuf};

/// Memory that this process may still use: what the system has available, or what the control group leaves, if that is
/// less. `None` where the system does not report it.
pub(crate) fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let available = field(&meminfo, "MemAvailable:")?.saturating_mul(1024);
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let left = group_dirs(&group).iter().filter_map(|dir| left_in(dir)).min();
    Some(left.map_or(available, |left| left.min(available)))
}

/// Name of the CPU; `None` where the system does not report it.
pub(crate) fn cpu_name() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Name of the instruction set of products with packed weights; `None` in builds without them.
#[cfg(feature = "flex")]
pub(crate) fn instruction_set() -> anyhow::Result<Option<String>> {
    Ok(Some(litemoe_kernels::InstructionSet::chosen()?.to_string()))
}

#[cfg(not(feature = "flex"))]
#[allow(clippy::unnecessary_wraps)] // fails in builds with the feature
pub(crate) fn instruction_set() -> anyhow::Result<Option<String>> {
    Ok(None)
}

/// First number after a field's name.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Directories of a process's control group and of those above it, versions 2 and 1.
fn group_dirs(group: &str) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for line in group.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Path::new("/sys/fs/cgroup/memory")
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        dirs.extend(own.ancestors().take_while(|dir| dir.starts_with(root)).map(Path::to_owned));
    }
    dirs
}

/// Bytes that a control group leaves below its limit; file pages that can be dropped do not count as used.
fn left_in(dir: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok()
    };
    let [limit, used] =
        [["memory.max", "memory.limit_in_bytes"], ["memory.current", "memory.usage_in_bytes"]]
            .map(|names| names.into_iter().find_map(number));
    let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    let droppable = field(&stat, "total_inactive_file ").or(field(&stat, "inactive_file "));
    Some(limit?.saturating_sub(used?.saturating_sub(droppable.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_groups_limit_counts_less_what_is_used() {
        let dir = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        assert_eq!(left_in(dir.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "300\n");
        assert_eq!(left_in(dir.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(left_in(dir.path()), Some(700));
        write("memory.stat", "anon 100\ninactive_file 200\n");
        assert_eq!(left_in(dir.path()), Some(900));
        write("memory.current", "5000\n");
        assert_eq!(left_in(dir.path()), Some(0));
    }

    #[test]
    fn groups_of_both_versions() {
        let dirs = |text: &str| -> Vec<String> {
            group_dirs(text).iter().map(|dir| dir.display().to_string()).collect()
        };
        assert_eq!(dirs("0::/a/b\n"), ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]);
        assert_eq!(
            dirs("12:cpu,cpuacct:/x\n4:memory:/x\n"),
            ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory"]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn some_memory_is_available() {
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
