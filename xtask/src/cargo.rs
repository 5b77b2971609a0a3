//! The program `cargo`, and what it says about the workspace.

use std::env;
use std::ffi::OsString;
use std::path::Path;
#[cfg(test)]
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The members of a workspace and the dependencies they declare.
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

/// What an edge that is not a normal one is for.
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
    /// Reads the workspace at `root`; nothing is resolved.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let json = run(root, &["metadata", "--no-deps", "--format-version", "1"])?;
        serde_json::from_str(&json).context("cargo metadata")
    }
}

/// What cargo prints when it is run in `root`; what it says on the way goes to the terminal.
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

/// The cargo that runs this program, else the one in the path.
fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
