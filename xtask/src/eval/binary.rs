//! Runs the `litemoe` binary as a user does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cargo;

/// A release build of `litemoe`.
pub(crate) struct Binary {
    path: PathBuf,
    digest: String,
}

/// Input of one run of the loop.
pub(super) struct Work<'a> {
    /// Output folder of the loop.
    pub(super) out: PathBuf,
    pub(super) foundation: &'a Path,
    pub(super) app: &'a str,
    /// The app's folder.
    pub(super) data: &'a Path,
    /// Further arguments.
    pub(super) more: Vec<String>,
}

impl Binary {
    /// Builds the binary of the workspace at `root`.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        let package = ["build", "--release", "--package", "litemoe-cli"];
        let messages = cargo::run(
            root,
            &[&package[..], &["--message-format=json-render-diagnostics"]].concat(),
        )?;
        let path = executable(&messages).context("cargo built no binary of litemoe-cli")?;
        let digest = Sha256::digest(fs::read(&path)?);
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path, digest })
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The output of `litemoe customize --json` for one app, on 300 test rows; taken from `saved` if this binary
    /// already printed it for the same arguments.
    pub(super) fn customize(&self, work: &Work<'_>, saved: &Path) -> Result<Value> {
        let mut args: Vec<String> =
            ["customize", "--json", "--limit", "300", "--out"].map(str::to_owned).into();
        args.push(text(&work.out));
        args.extend(["--foundation".to_owned(), text(work.foundation)]);
        args.extend(["--app".to_owned(), format!("{}={}", work.app, work.data.display())]);
        args.extend(work.more.iter().cloned());
        let key = serde_json::json!({ "program": self.digest, "arguments": args });
        if let Some(known) = read(saved).filter(|known| known["key"] == key) {
            return Ok(known["printed"].clone());
        }
        let command = Command::new(&self.path).args(&args).stderr(Stdio::inherit()).output();
        let output = command.context("cannot run litemoe")?;
        if !output.status.success() {
            bail!("litemoe customize failed on {}", work.app);
        }
        let printed: Value = serde_json::from_slice(&output.stdout)
            .context("litemoe customize --json printed no JSON")?;
        let kept = serde_json::json!({ "key": key, "printed": printed });
        fs::create_dir_all(saved.parent().unwrap_or(Path::new("")))?;
        let part = saved.with_extension("part");
        fs::write(&part, serde_json::to_vec(&kept)?)?;
        fs::rename(&part, saved).with_context(|| format!("cannot write {}", saved.display()))?;
        Ok(printed)
    }

    /// The output of a command with `--json`.
    pub(super) fn json(&self, args: &[String]) -> Result<Value> {
        let mut command = Command::new(&self.path);
        command.args(args).arg("--json").stderr(Stdio::inherit());
        let output = command.output().context("cannot run litemoe")?;
        if !output.status.success() {
            bail!("litemoe {} failed", args.join(" "));
        }
        serde_json::from_slice(&output.stdout).context("litemoe printed no JSON")
    }
}

fn read(saved: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(saved).ok()?).ok()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The executable named in cargo's messages, one JSON object per line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}
