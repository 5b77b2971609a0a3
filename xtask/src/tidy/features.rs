//! Checks that the binary, tests and benches build every package with the same features.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::cargo;

/// Name and version → feature sets; more than one set if it is also built for the host.
type Features = BTreeMap<String, BTreeSet<String>>;

/// One sentence per package that `cargo run -p litemoe-cli` builds with other features than the tests do.
pub(super) fn findings(root: &Path) -> Result<Vec<String>> {
    let binary = features(root, &["--package", "litemoe-cli", "--edges", "normal,build"])?;
    let tests = features(root, &["--workspace", "--edges", "normal,build,dev"])?;
    Ok(differences(&binary, &tests))
}

fn differences(binary: &Features, tests: &Features) -> Vec<String> {
    binary
        .iter()
        .filter_map(|(package, sets)| {
            let missing = sets.iter().find(|set| !tests.get(package).is_some_and(|t| t.contains(*set)))?;
            Some(format!(
                "{package} is built twice, with features [{missing}] for the binary and {:?} for the tests: \
                 name it in both with the same features",
                tests.get(package).into_iter().flatten().collect::<Vec<_>>()
            ))
        })
        .collect()
}

fn features(root: &Path, selection: &[&str]) -> Result<Features> {
    let form = ["--prefix", "none", "--format", "{p}|{f}"];
    let tree = cargo::run(root, &[&["tree"], selection, &form].concat())?;
    let mut features = Features::new();
    for (package, set) in tree.lines().filter_map(|line| line.split_once('|')) {
        let name_and_version = package.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let set = set.trim_end_matches(" (*)").to_owned();
        features.entry(name_and_version).or_default().insert(set);
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(package: &str, sets: &[&str]) -> Features {
        let sets = sets.iter().map(|&set| set.to_owned()).collect();
        Features::from([(package.to_owned(), sets)])
    }

    #[test]
    fn a_package_built_twice_is_found() {
        let (one, both) = (of("a v1", &["std"]), of("a v1", &["default,std", "std"]));
        assert!(differences(&one, &both).is_empty());
        assert_eq!(differences(&both, &one).len(), 1);
        assert_eq!(differences(&one, &of("a v1", &["default,std"])).len(), 1);
    }
}
