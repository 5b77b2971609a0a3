//! `litemoe pull` from a local Hub server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bench::{Bench, Run};
use crate::hub_server::HubServer;

/// Bench with a cache, and a Hub server that has the tiny model.
pub(crate) struct Pull {
    pub(crate) bench: Bench,
    pub(crate) server: HubServer,
}

/// Isolates a test from the user's own cache, token and proxies.
pub(crate) fn without_surroundings(mut command: Command, bench: &Bench) -> Command {
    let names = std::env::vars_os().map(|(name, _)| name);
    let theirs = |name: &str| {
        name.starts_with("HF_")
            || name.starts_with("HUGGING")
            || name == "TRANSFORMERS_OFFLINE"
            || name.to_ascii_lowercase().ends_with("_proxy")
    };
    names.filter(|name| name.to_str().is_some_and(theirs)).for_each(|name| {
        command.env_remove(name);
    });
    command.env("HF_HOME", bench.path("hf"));
    command
}

impl Pull {
    pub(crate) fn new() -> Self {
        let bench = Bench::new();
        fs::write(bench.path("model/README.md"), "of no use here").expect("written");
        fs::write(bench.path("model/pytorch_model.bin"), "of no use here").expect("written");
        Self { server: HubServer::of(&bench.path("model")), bench }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = without_surroundings(self.bench.command(args), &self.bench);
        command.env("HF_ENDPOINT", self.server.endpoint());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().expect("the binary runs"))
    }

    /// Runs with `--json` and checks that it succeeds.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        json(&self.run(&[args, &["--json"]].concat()))
    }

    /// Runs a command and checks that it fails with code 1 and mentions all of these.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str], names: &[&str]) {
        refused(&self.run(args), names);
    }

    /// The model's directory in the cache.
    pub(crate) fn repo(&self) -> PathBuf {
        self.bench.path("hf/hub/models--org--tiny")
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.repo().join("snapshots").join(&self.server.hub().commit)
    }
}

#[track_caller]
pub(crate) fn json(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

#[track_caller]
pub(crate) fn refused(run: &Run, names: &[&str]) {
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    for name in names {
        assert!(run.stderr.contains(name), "`{name}` is not in: {}", run.stderr);
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the folder is there");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
