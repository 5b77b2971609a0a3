//! Finds forbidden packages among the transitive dependencies of the libraries.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::cargo;

/// Backends: the binary chooses one, never a library.
const BACKENDS: &[&str] = &[
    "burn-candle",
    "burn-cpu",
    "burn-cubecl",
    "burn-cuda",
    "burn-flex",
    "burn-ndarray",
    "burn-remote",
    "burn-rocm",
    "burn-router",
    "burn-tch",
    "burn-wgpu",
];

/// Packages for arguments, sockets and tokenizers, which only the outer crates may need.
const SURFACES: &[&str] = &["axum", "clap", "tokenizers", "tokio", "ureq"];

pub(super) const LIBRARIES: &[&str] = &[
    "litemoe-adapter",
    "litemoe-core",
    "litemoe-files",
    "litemoe-kernels",
    "litemoe-merge",
    "litemoe-model",
    "litemoe-registry",
    "litemoe-score",
    "litemoe-server",
    "litemoe-text",
];

/// Libraries for computation only.
const PURE: &[&str] = &["litemoe-adapter", "litemoe-core", "litemoe-merge", "litemoe-score"];

/// One sentence per forbidden package among the transitive normal dependencies of `libraries`.
pub(super) fn findings(root: &Path, libraries: &[&str]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for library in libraries {
        let needed = normal_dependencies(root, library)?;
        let surfaces: &[&str] = if PURE.contains(library) { SURFACES } else { &[] };
        for forbidden in BACKENDS.iter().chain(surfaces).filter(|name| needed.contains(**name)) {
            findings.push(format!("{library} must not need {forbidden}, not even indirectly"));
        }
    }
    Ok(findings)
}

/// Names of the packages that a member needs when built alone, without its tests.
///
/// From `cargo tree -p`, because `cargo metadata` resolves features for the whole workspace, where a backend that only
/// the binary enables appears below every library. Only for this machine's target: on wasm, Burn itself needs tokio.
fn normal_dependencies(root: &Path, member: &str) -> Result<BTreeSet<String>> {
    let tree = cargo::run(
        root,
        &[
            "tree",
            "--package",
            member,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ],
    )?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}
