use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::IgnoredAny;

use crate::customize::RESULTS;

/// What `inspect` is given, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A model directory, or the id of a pulled model.
    Model,
    /// `scores.json`
    Scores,
    /// `plan.json`
    Plan,
    /// `similarity.json`
    Similarity,
    /// A PEFT adapter directory.
    Adapter,
    /// `report.json` or `sweep.json` of `customize`, or its output directory.
    Run,
}

/// Keys that a JSON file is recognised by. Scores have the keys of similarities and more.
const FILES: [(&[&str], Kind); 4] = [
    (&["shards", "origin", "kappa", "layers"], Kind::Scores),
    (&["input_sha256", "options", "layers"], Kind::Plan),
    (&["kind", "kappa", "layers"], Kind::Similarity),
    (&["apps"], Kind::Run),
];

impl Kind {
    /// Recognises a path, and returns the file to read if it is a record, or the directory if it has several. A path that does not exist may be a model's id.
    pub(super) fn of(path: &Path) -> anyhow::Result<(Self, PathBuf)> {
        if path.is_file() {
            return Ok((Self::of_file(path)?, path.to_owned()));
        }
        if !path.is_dir() {
            return Ok((Self::Model, path.to_owned()));
        }
        let has = |name: &str| path.join(name).is_file();
        let has_weights = has("model.safetensors") || has("model.safetensors.index.json");
        // Adapters are published with their base's configuration, too.
        let is_run = RESULTS.into_iter().any(has);
        match (has("config.json"), has("adapter_config.json"), is_run) {
            (is_model, true, _) if !(is_model && has_weights) => {
                Ok((Self::Adapter, path.to_owned()))
            }
            (true, ..) => Ok((Self::Model, path.to_owned())),
            (_, _, true) => Ok((Self::Run, path.to_owned())),
            _ => bail!(
                "{}: neither config.json (of a model), adapter_config.json (of an adapter), report.json nor sweep.json \
                 (of `customize`) is there",
                path.display()
            ),
        }
    }

    fn of_file(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let keys: BTreeMap<String, IgnoredAny> = serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{} is no record: not a JSON object", path.display()))?;
        let has = |wanted: &[&str]| wanted.iter().all(|key| keys.contains_key(*key));
        let Some(&(_, kind)) = FILES.iter().find(|(wanted, _)| has(wanted)) else {
            let found: Vec<&str> = keys.keys().take(6).map(String::as_str).collect();
            bail!(
                "{} is none of scores, a plan, similarities and a report: its keys are {}",
                path.display(),
                found.join(", ")
            );
        };
        Ok(kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "a model",
            Self::Scores => "scores",
            Self::Plan => "a plan",
            Self::Similarity => "similarities",
            Self::Adapter => "an adapter",
            Self::Run => "a run of `customize`",
        })
    }
}
