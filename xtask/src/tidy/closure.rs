//! What must not be among the packages that a library needs, however indirectly.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::cargo;

/// Where tensors are computed is chosen by the binary, never by a library.
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

/// Arguments, sockets and tokenizers belong to the crates at the edge.
const SURFACES: &[&str] = &["axum", "clap", "hf-hub", "tokenizers", "tokio"];

pub(super) const LIBRARIES: &[&str] = &[
    "litemoe-adapter",
    "litemoe-core",
    "litemoe-kernels",
    "litemoe-merge",
    "litemoe-model",
    "litemoe-score",
    "litemoe-server",
    "litemoe-text",
];

/// Libraries that compute and nothing else.
const PURE: &[&str] = &["litemoe-adapter", "litemoe-core", "litemoe-merge", "litemoe-score"];

/// A sentence for each forbidden package among the transitive normal dependencies of `libraries`.
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

/// Names of the packages that a member needs when it is built alone, without its tests.
///
/// From `cargo tree -p`, because `cargo metadata` resolves features for the whole workspace: there
/// a backend that only the binary turns on appears below every library. For the target of this
/// machine: on wasm, Burn itself needs tokio.
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
