//! The `litemoe` binary, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

/// A release build of `litemoe`.
pub(super) struct Binary {
    path: PathBuf,
    foundation: PathBuf,
}

impl Binary {
    /// Builds the binary of the workspace at `root`.
    pub(super) fn build(root: &Path) -> Result<Self> {
        let package = ["build", "--release", "--package", "litemoe-cli"];
        let messages = cargo::run(
            root,
            &[&package[..], &["--message-format=json-render-diagnostics"]].concat(),
        )?;
        let path = executable(&messages).context("cargo built no binary of litemoe-cli")?;
        Ok(Self { path, foundation: root.join("fixtures/foundation") })
    }

    /// What `litemoe customize --json` with more arguments prints for an app and its folder, or for what is embedded.
    pub(super) fn customize(
        &self,
        out: &Path,
        app: Option<(&str, &Path)>,
        more: &[&str],
    ) -> Result<Value> {
        let mut command = Command::new(&self.path);
        command
            .args(["customize", "--json", "--budget", "0.33", "--limit", "300", "--out"])
            .arg(out)
            .args(more);
        if let Some((name, folder)) = app {
            command.arg("--foundation").arg(&self.foundation);
            command.arg("--app").arg(format!("{name}={}", folder.display()));
        }
        let output = command.stderr(Stdio::inherit()).output().context("cannot run litemoe")?;
        if !output.status.success() {
            bail!(
                "litemoe customize failed on {}",
                app.map_or("what is embedded", |(name, _)| name)
            );
        }
        serde_json::from_slice(&output.stdout).context("litemoe customize --json printed no JSON")
    }
}

/// The executable that cargo's messages, a JSON object a line, name.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}
