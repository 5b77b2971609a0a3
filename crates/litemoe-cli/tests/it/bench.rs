//! Temporary directory with a tiny model and rows, in which tests run the binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Temporary directory of one test.
pub(crate) struct Bench {
    dir: TempDir,
    /// Budget: the share of expert bytes that a proxy keeps.
    pub(crate) budget: &'static str,
}

/// Result of a run.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// Directory with `model/` (the tiny checkpoint) and `rows.jsonl` (40 rows).
    pub(crate) fn new() -> Self {
        let bench = Self { dir: TempDir::new().expect("a temporary folder"), budget: "0.5" };
        copy_dir(&litemoe_fixtures::tiny_dir(), &bench.path("model"));
        bench.write_rows("rows.jsonl", 40);
        bench
    }

    /// The same with another tiny checkpoint and the first one's tokenizer.
    pub(crate) fn of(name: &str) -> Self {
        // Six of eight experts: the router needs three in each of two groups.
        let budget = if name == "deepseek_v3" { "0.75" } else { "0.5" };
        let bench = Self { budget, ..Self::new() };
        copy_dir(&litemoe_fixtures::tiny_dir().with_file_name(name), &bench.path("model"));
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes rows on which a random model can be tuned.
    pub(crate) fn write_rows(&self, name: &str, count: usize) {
        let row = |i: usize| {
            format!(
                "{{\"prompt\": \"add {i} and {}\", \"completion\": \"return {}\"}}\n",
                i + 1,
                i % 7
            )
        };
        fs::write(self.path(name), (0..count).map(row).collect::<String>())
            .expect("rows are written");
    }

    /// Copies another's directory.
    pub(crate) fn copy_from(&self, other: &Self, from: &str, to: &str) {
        copy_dir(&other.path(from), &self.path(to));
    }

    /// Runs the binary in the directory.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().expect("the binary runs"))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_litemoe"));
        command.args(args).current_dir(self.dir.path()).env("RAYON_NUM_THREADS", "2");
        command.env("LITEMOE_CACHE", self.dir.path().join("cache"));
        // Not the user's registry of apps.
        command.env_remove("LITEMOE_REGISTRY").env("XDG_DATA_HOME", self.dir.path().join("data"));
        command
    }

    /// Runs the binary with `--json`, checks that it succeeds, and parses its output.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let run = self.run(&[args, &["--json"]].concat());
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
    }

    /// Scores, plans and extracts `proxy/` with the given plan options.
    pub(crate) fn extract(&self, plan_options: &[&str]) {
        self.json(&[
            "score",
            "model",
            "rows.jsonl",
            "--similarity",
            "affinity",
            "--similarity-out",
            "similarity.json",
        ]);
        let plan = [
            "plan",
            "model",
            "scores.json",
            "--similarity-file",
            "similarity.json",
            "--budget",
            self.budget,
        ];
        self.json(&[&plan, plan_options].concat());
        self.json(&["extract", "model", "plan.json"]);
    }

    /// Tunes `adapter/` on `model` for a few steps.
    pub(crate) fn tune(&self, model: &str, out: &str, options: &[&str]) -> Value {
        let mut args =
            vec!["tune", model, "rows.jsonl", "--validation", "rows.jsonl", "--out", out];
        let quick = [
            ("--steps", "6"),
            ("--batch", "4"),
            ("--validate-every", "3"),
            ("--validation-rows", "8"),
            ("--warmup", "2"),
        ];
        for (flag, value) in quick.into_iter().filter(|(flag, _)| !options.contains(flag)) {
            args.extend([flag, value]);
        }
        args.extend(options);
        self.json(&args)
    }

    /// Names in the directory, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("the folder is there");
        let mut names: Vec<String> = entries
            .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Run {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Copies the files of a directory.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is made");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().expect("a name")))
                .expect("the file is copied");
        }
    }
}

/// Edits a JSON file in place, and removes its checksum.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value =
        serde_json::from_slice(&fs::read(path).expect("the file is there")).expect("JSON");
    edit(&mut value);
    value.as_object_mut().map(|record| record.remove("sha256"));
    fs::write(path, value.to_string()).expect("the file is written");
}
