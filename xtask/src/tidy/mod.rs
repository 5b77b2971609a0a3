//! `cargo xtask tidy`: workspace checks that the compiler does not do.

mod closure;
mod crates;
mod features;
mod graph;
mod import_cycles;
mod text;

use std::path::Path;

use anyhow::Result;

use crate::cargo::Workspace;
use crate::findings::Findings;

/// Checks the workspace at `root`; one sentence per problem.
pub(crate) fn check(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    findings.extend(graph::findings(&Workspace::read(root)?));
    findings.extend(closure::findings(root, closure::LIBRARIES)?);
    findings.extend(features::findings(root)?);
    findings.extend(crates::findings(root)?);
    findings.extend(import_cycles::findings(root)?);
    findings.extend(text::findings(root)?);
    Ok(findings)
}

#[cfg(test)]
mod planted;

#[cfg(test)]
mod tests {
    #[test]
    fn this_workspace_is_tidy() {
        let findings = super::check(&crate::workspace_root()).unwrap();
        assert!(findings.is_empty(), "{findings}");
    }
}
