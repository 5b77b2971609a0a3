//! Runs `cargo` and reads the workspace's metadata.

use std::env;
use std::ffi::OsString;
use std::path::Path;
#[cfg(test)]
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Members of a workspace and their declared dependencies.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    #[cfg(test)]
    pub(crate) manifest_path: PathBuf,
    #[cfg(test)]
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<Kind>,
}

/// Kind of a dependency that is not a normal one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Build,
    Dev,
}

#[cfg(test)]
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) src_path: PathBuf,
}

impl Workspace {
    /// Reads the workspace at `root` without resolving dependencies.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let json = run(root, &["metadata", "--no-deps", "--format-version", "1"])?;
        serde_json::from_str(&json).context("cargo metadata")
    }
}

/// Runs cargo in `root` and returns its standard output; standard error goes to the terminal.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program())
        .args(arguments)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The cargo that runs this program, or else the one in `PATH`.
fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
