//! The machine and the versions of the programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
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
    /// This machine, and the commit of litemoe: what the binary `litemoe` says, or that of the checkout without one.
    pub(super) fn this(root: &Path, litemoe: Option<&Path>) -> Result<Self> {
        let commit = match litemoe {
            Some(binary) => commit_of(binary)?,
            None => commit(root)?,
        };
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            date: OffsetDateTime::now_utc().date().to_string(),
            cpu: field(&info, "model name").unwrap_or("unknown CPU").to_owned(),
            sets: sets(&info),
            versions: BTreeMap::from([("litemoe".to_owned(), commit)]),
        })
    }
}

/// The commit that a binary of litemoe says it is built from.
fn commit_of(litemoe: &Path) -> Result<String> {
    let output = Command::new(litemoe).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {}", litemoe.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let commit = field(&text, "commit").filter(|_| output.status.success());
    let commit = commit.with_context(|| format!("{} --version: no commit", litemoe.display()))?;
    Ok(commit.to_owned())
}

fn sets(info: &str) -> Vec<&'static str> {
    let flags: Vec<&str> = field(info, "flags").unwrap_or_default().split_whitespace().collect();
    SETS.into_iter().filter(|set| flags.contains(set)).collect()
}

/// The first value of a field, as in `/proc/cpuinfo`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_commit_is_that_of_the_binary() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let built =
            program("built", r"printf 'litemoe 0.1.0\ncommit: 0123456789ab\nfeatures: flex\n'");
        let machine = Machine::this(dir.path(), Some(&built)).unwrap();
        assert_eq!(machine.versions["litemoe"], "0123456789ab");
        let old = program("old", "echo litemoe 0.1.0");
        assert!(commit_of(&old).unwrap_err().to_string().contains("no commit"));
        assert!(commit_of(&dir.path().join("none")).is_err());
    }

    #[test]
    fn instruction_sets_are_whole_flags() {
        let info = "model name\t: A CPU\nflags\t\t: sse avx2 avx512fp16 amx_int8\nflags: fma\n";
        assert_eq!(field(info, "model name"), Some("A CPU"));
        assert_eq!(sets(info), ["avx2", "amx_int8"]);
        assert!(sets("").is_empty());
    }
}
