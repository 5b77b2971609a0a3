//! Memory of the processes of a job.

use std::fs;

use crate::memory::anonymous_bytes_of;

/// Anonymous memory of all processes of a group now, in bytes; 0 where the system does not report it. Memory-mapped
/// checkpoints are not in it.
pub(super) fn group_bytes(group: u32) -> u64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|&id| group_of(id) == Some(group)).map(anonymous_bytes_of).sum()
}

fn group_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // After the name, which may have spaces and parentheses: state, parent, group.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_memory_of_its_processes() {
        let group = group_of(std::process::id()).expect("a group");
        let block = vec![1_u8; 64 << 20];
        let bytes = group_bytes(group);
        assert!(bytes >= block.iter().map(|&byte| u64::from(byte)).sum(), "{bytes}");
        assert_eq!(group_bytes(u32::MAX), 0);
    }
}
