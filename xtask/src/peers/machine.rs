//! The machine and the versions of the programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use time::OffsetDateTime;

use crate::eval::commit;

/// Instruction sets that matter to products, as Linux names them.
const SETS: [&str; 9] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
];

/// What a table of speeds has to say of where they were measured.
pub(super) struct Machine {
    /// Day, UTC.
    pub(super) date: String,
    pub(super) cpu: String,
    pub(super) sets: Vec<&'static str>,
    /// By program.
    pub(super) versions: BTreeMap<String, String>,
}

impl Machine {
    /// This machine, and the commit of litemoe.
    pub(super) fn this(root: &Path) -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            date: OffsetDateTime::now_utc().date().to_string(),
            cpu: field(&info, "model name").unwrap_or("unknown CPU").to_owned(),
            sets: sets(&info),
            versions: BTreeMap::from([("litemoe".to_owned(), commit(root)?)]),
        })
    }
}

fn sets(info: &str) -> Vec<&'static str> {
    let flags: Vec<&str> = field(info, "flags").unwrap_or_default().split_whitespace().collect();
    SETS.into_iter().filter(|set| flags.contains(set)).collect()
}

/// The first value of a field of `/proc/cpuinfo`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_sets_are_whole_flags() {
        let info = "model name\t: A CPU\nflags\t\t: sse avx2 avx512fp16 amx_int8\nflags: fma\n";
        assert_eq!(field(info, "model name"), Some("A CPU"));
        assert_eq!(sets(info), ["avx2", "amx_int8"]);
        assert!(sets("").is_empty());
    }
}
