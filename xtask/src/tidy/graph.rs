//! Crate graph: allowed dependencies between the workspace's crates.

use crate::cargo::{Kind, Workspace};

/// The libraries between `litemoe-core` and the binary. None depends on another.
const SIBLINGS: &[&str] =
    &["litemoe-model", "litemoe-score", "litemoe-merge", "litemoe-adapter", "litemoe-server"];

const CORE: &str = "litemoe-core";
const FILES: &str = "litemoe-files";
const KERNELS: &str = "litemoe-kernels";
const REGISTRY: &str = "litemoe-registry";
const TEXT: &str = "litemoe-text";
const FIXTURES: &str = "litemoe-fixtures";

/// Allowed normal and build dependencies of a member. `None` for a crate that is not in the graph.
fn allowed(member: &str) -> Option<Vec<&'static str>> {
    Some(match member {
        CORE | FILES | FIXTURES | "xtask" => vec![],
        KERNELS | "litemoe-score" | "litemoe-merge" => vec![CORE],
        "litemoe-model" | "litemoe-adapter" => vec![CORE, FILES, KERNELS],
        TEXT => vec![CORE, FILES],
        REGISTRY => vec![FILES],
        "litemoe-server" => vec![CORE, TEXT, REGISTRY],
        "litemoe-cli" | "litemoe-benches" => libraries(),
        _ => return None,
    })
}

/// Additional dependencies allowed in a member's tests.
fn allowed_in_tests(member: &str) -> Vec<&'static str> {
    match member {
        FIXTURES | "xtask" => vec![],
        CORE | FILES | KERNELS => vec![FIXTURES],
        _ => libraries(),
    }
}

fn libraries() -> Vec<&'static str> {
    [&[CORE, FILES, KERNELS, REGISTRY, TEXT, FIXTURES], SIBLINGS].concat()
}

/// One sentence per dependency between members that is not in the graph.
pub(super) fn findings(workspace: &Workspace) -> Vec<String> {
    let members = &workspace.packages;
    let is_member = |name: &str| members.iter().any(|package| package.name == name);
    let mut findings = Vec::new();
    for member in members {
        let Some(allowed) = allowed(&member.name) else {
            findings.push(format!(
                "{} is not in the crate graph: add it to crates/README.md and to xtask/src/tidy/graph.rs",
                member.name
            ));
            continue;
        };
        for dependency in member.dependencies.iter().filter(|d| is_member(&d.name)) {
            let to = dependency.name.as_str();
            let in_tests = dependency.kind == Some(Kind::Dev);
            if in_tests && to == member.name {
                continue; // the crate's own tests enable its features
            }
            if !(allowed.contains(&to) || in_tests && allowed_in_tests(&member.name).contains(&to))
            {
                findings.push(sentence(&member.name, to, in_tests));
            }
        }
    }
    findings
}

fn sentence(from: &str, to: &str, in_tests: bool) -> String {
    let from = if in_tests { format!("{from}'s tests") } else { from.to_owned() };
    format!("{from} must not depend on {to}: the graph in crates/README.md has no such edge")
}
