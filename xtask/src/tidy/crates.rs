//! Checks the required files of every crate.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// One sentence per missing README, changelog or compiled example of a crate.
pub(super) fn findings(root: &Path) -> Result<Vec<String>> {
    let mut folders = vec![root.join("fixtures")];
    for entry in fs::read_dir(root.join("crates")).context("crates")? {
        folders.push(entry?.path());
    }
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    Ok(folders.iter().flat_map(|folder| crate_findings(root, folder)).collect())
}

fn crate_findings(root: &Path, folder: &Path) -> Vec<String> {
    let name = folder.strip_prefix(root).unwrap_or(folder).display();
    let mut findings = Vec::new();
    for file in ["README.md", "CHANGELOG.md"] {
        if !folder.join(file).is_file() {
            findings.push(format!("{name} has no {file}"));
        }
    }
    if folder.join("src/lib.rs").is_file() && !tests_its_readme(folder) {
        findings.push(format!(
            "{name} does not compile its README's example: it needs a ```rust block in README.md \
             and include_str!(\"../README.md\") in src/lib.rs"
        ));
    }
    findings
}

fn tests_its_readme(folder: &Path) -> bool {
    let has = |file: &str, text: &str| {
        fs::read_to_string(folder.join(file)).is_ok_and(|content| content.contains(text))
    };
    has("README.md", "```rust") && has("src/lib.rs", "include_str!(\"../README.md\")")
}
