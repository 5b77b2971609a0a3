//! Tests each check on a copy of the workspace's manifests with a planted fault.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{closure, graph};
use crate::cargo::Workspace;
use crate::workspace_root;

/// A copy of the workspace with its real manifests and empty sources.
fn copy() -> TempDir {
    let (root, copy) = (workspace_root(), tempfile::tempdir().unwrap());
    fs::create_dir(copy.path().join(".cargo")).unwrap();
    fs::write(copy.path().join(".cargo/config.toml"), "net.offline = true\n").unwrap();
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root.join(file), copy.path().join(file)).unwrap();
    }
    for package in &Workspace::read(&root).unwrap().packages {
        let within = |path: &Path| copy.path().join(path.strip_prefix(&root).unwrap());
        for target in &package.targets {
            let source = within(&target.src_path);
            fs::create_dir_all(source.parent().unwrap()).unwrap();
            fs::write(source, "").unwrap();
        }
        fs::copy(&package.manifest_path, within(&package.manifest_path)).unwrap();
    }
    copy
}

/// Adds a line under a table heading in a member's manifest.
fn plant(copy: &TempDir, manifest: &str, heading: &str, line: &str) {
    let path = copy.path().join(manifest);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(heading), "{manifest} has no {heading}");
    fs::write(path, text.replacen(heading, &format!("{heading}\n{line}"), 1)).unwrap();
}

fn graph_findings(root: &Path) -> Vec<String> {
    graph::findings(&Workspace::read(root).unwrap())
}

#[test]
fn a_back_edge_is_found() {
    let copy = copy();
    assert_eq!(graph_findings(copy.path()), [""; 0]);
    plant(
        &copy,
        "crates/litemoe-core/Cargo.toml",
        "[dependencies]",
        "litemoe-score.workspace = true",
    );
    assert_eq!(
        graph_findings(copy.path()),
        [
            "litemoe-core must not depend on litemoe-score: the graph in crates/README.md has no such edge"
        ]
    );
}

#[test]
fn an_edge_between_siblings_is_found_but_their_tests_may_have_it() {
    let copy = copy();
    let manifest = "crates/litemoe-text/Cargo.toml";
    plant(&copy, manifest, "[dev-dependencies]", "litemoe-model.workspace = true");
    assert_eq!(graph_findings(copy.path()), [""; 0]);
    plant(&copy, manifest, "[dependencies]", "litemoe-merge.workspace = true");
    assert_eq!(
        graph_findings(copy.path()),
        [
            "litemoe-text must not depend on litemoe-merge: the graph in crates/README.md has no such edge"
        ]
    );
}

#[test]
fn the_tests_of_a_library_do_not_need_the_binary() {
    let copy = copy();
    let line = "litemoe-cli = { path = \"../litemoe-cli\" }";
    plant(&copy, "crates/litemoe-merge/Cargo.toml", "[dev-dependencies]", line);
    assert_eq!(
        graph_findings(copy.path()),
        [
            "litemoe-merge's tests must not depend on litemoe-cli: the graph in crates/README.md has no such edge"
        ]
    );
}

#[test]
fn a_crate_outside_the_graph_is_found() {
    let copy = copy();
    let folder = copy.path().join("crates/litemoe-extra");
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/lib.rs"), "").unwrap();
    fs::write(
        folder.join("Cargo.toml"),
        "[package]\nname = \"litemoe-extra\"\nversion = \"0.1.0\"\n",
    )
    .unwrap();
    let findings = graph_findings(copy.path());
    assert_eq!(findings.len(), 1);
    assert!(findings[0].starts_with("litemoe-extra is not in the crate graph"), "{findings:?}");
}

#[test]
fn a_forbidden_package_is_found_also_when_it_is_indirect() {
    let copy = copy();
    assert_eq!(closure::findings(copy.path(), &["litemoe-merge"]).unwrap(), [""; 0]);
    plant(&copy, "crates/litemoe-core/Cargo.toml", "[dependencies]", "clap.workspace = true");
    assert_eq!(
        closure::findings(copy.path(), &["litemoe-core", "litemoe-merge", "litemoe-server"])
            .unwrap(),
        [
            "litemoe-core must not need clap, not even indirectly",
            "litemoe-merge must not need clap, not even indirectly",
        ]
    );
}

#[test]
fn a_backend_in_a_library_is_found() {
    let copy = copy();
    let path = copy.path().join("crates/litemoe-model/Cargo.toml");
    let (plain, flex) =
        ("burn.workspace = true", "burn = { workspace = true, features = [\"flex\"] }");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(plain));
    fs::write(path, text.replacen(plain, flex, 1)).unwrap();
    assert_eq!(
        closure::findings(copy.path(), &["litemoe-model"]).unwrap(),
        ["litemoe-model must not need burn-flex, not even indirectly"]
    );
}
