//! `litemoe export vllm`: a directory from which vLLM and SGLang serve a model with adapters.

mod launch;
mod model_files;
mod named_adapter;
mod record;
mod refused;
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use litemoe_core::Plan;
use litemoe_files::{StagedDir, TargetLock, check_target};
use litemoe_model::Checkpoint;
use serde::{Deserialize, Serialize};

use self::model_files::ModelFiles;
use self::named_adapter::{NamedAdapter, expect_name, named};
use self::record::{
    ADAPTERS, AdapterSummary, EXPORT_FILE, README, Record, SGLANG_SCRIPT, ServerRecord, Servers,
    VLLM_SCRIPT,
};
use self::refused::Refused;
use self::servers::{SGLANG, VLLM, vllm_rank};
use crate::input_files::InputFiles;
use crate::work::{self, Report, Work};
use crate::{artefact, disk, hub, model, output};

/// Write a model with adapters as a directory that vLLM and SGLang serve
///
/// The directory has a copy of the model, the adapters in PEFT's layout, and a file that starts each server. Both servers
/// apply LoRAs of one rank and one scale, so lower ranks are padded with zeros, and other scales multiplied into B. What a
/// server would ignore or compute otherwise is refused by name; if only SGLang would, the file that starts it is left out.
///
/// The model is a proxy with the router rule drop_rows, for adapters that were tuned on it, or the foundation, for adapters
/// that were tuned on it or are mounted with full routing. An adapter that is mounted with restricted routing is the same on
/// its proxy: give the proxy and its plan.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(super) struct VllmArgs {
    /// The proxy or the foundation: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Adapter directory, with the model name it is served under; may be repeated.
    #[arg(long = "adapter", value_name = "NAME=DIR", required = true)]
    adapters: Vec<String>,
    /// Plan of the proxy, for adapters that are mounted on its foundation.
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// Model name of the model without an adapter [default: its id on the Hub, or its directory's name].
    #[arg(long)]
    name: Option<String>,
    /// Output directory.
    #[arg(long, value_name = "DIR", default_value = "vllm")]
    out: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Report of `export vllm`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Exported {
    out: PathBuf,
    bytes: u64,
    #[serde(flatten)]
    record: Record,
}

impl VllmArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        work::run(&self, self.json)
    }

    /// Locks the output, and takes the stamps of the inputs.
    fn lock(&self, adapters: &[(String, PathBuf)]) -> anyhow::Result<(TargetLock, InputFiles)> {
        let dir = hub::locate(&self.model)?;
        let mut inputs = vec![dir.as_path()];
        inputs.extend(adapters.iter().map(|(_, dir)| dir.as_path()).chain(self.plan.as_deref()));
        let lock = artefact::lock_dir(&self.out, &inputs)?;
        check_target(&self.out, record::is_own)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        Ok((lock, InputFiles::of(&inputs)))
    }

    /// Model name of the model without an adapter.
    fn served_name(&self, checkpoint: &Checkpoint) -> Result<String, Refused> {
        let name = self.name.clone().unwrap_or_else(|| model::name(checkpoint));
        expect_name(&name, "a model's (--name)", "._-/")?;
        Ok(name)
    }

    fn record(&self, checkpoint: &Checkpoint, adapters: &[NamedAdapter]) -> anyhow::Result<Record> {
        let name = self.served_name(checkpoint)?;
        expect_different(&name, adapters)?;
        if let Some(plan) = checkpoint.plan() {
            let (model, rule) = (self.model.clone(), plan.options.router);
            return Err(Refused::OwnRouter { model, rule }.into());
        }
        VLLM.check(checkpoint, adapters)?;
        let sglang = match SGLANG.check(checkpoint, adapters) {
            Ok(()) => ServerRecord::Script(SGLANG_SCRIPT.to_owned()),
            Err(refused) => ServerRecord::Refused(refused.to_string()),
        };
        Ok(Record {
            program: format!("litemoe {}", env!("CARGO_PKG_VERSION")),
            name,
            family: checkpoint.family().to_owned(),
            model: checkpoint.fingerprint().clone(),
            files: ModelFiles::of(checkpoint)?.names,
            adapters: Vec::new(),
            max_lora_rank: vllm_rank(adapters)?,
            servers: Servers { vllm: ServerRecord::Script(VLLM_SCRIPT.to_owned()), sglang },
        })
    }
}

impl Work for VllmArgs {
    type Report = Exported;

    fn execute(&self) -> anyhow::Result<Exported> {
        let dirs = self.adapters.iter().map(|given| named(given));
        let dirs = dirs.collect::<Result<Vec<_>, _>>()?;
        let (_lock, inputs) = self.lock(&dirs)?;
        let plan = self.plan.as_deref().map(artefact::read::<Plan>).transpose()?;
        let checkpoint = model::open(&self.model)?;
        checkpoint.expect_unquantised("an export for vLLM")?;
        model::note_leftovers(&checkpoint);
        let adapters = dirs.into_iter();
        let adapters =
            adapters.map(|(name, dir)| NamedAdapter::load(name, &dir, &checkpoint, plan.as_ref()));
        let adapters = adapters.collect::<anyhow::Result<Vec<_>>>()?;
        let mut record = self.record(&checkpoint, &adapters)?;
        let files = ModelFiles::of(&checkpoint)?;
        disk::expect_room(&self.out, files.bytes)?;
        let cannot = || format!("cannot write {}", self.out.display());
        let mut staged = StagedDir::new(&self.out, record::is_own).with_context(cannot)?;
        files.copy(checkpoint.dir(), &mut staged)?;
        for adapter in &adapters {
            let dir = staged.path().join(ADAPTERS).join(&adapter.name);
            adapter.save(&dir, &checkpoint, &record.name)?;
            record.adapters.push(AdapterSummary {
                name: adapter.name.clone(),
                rank: adapter.rank(),
                updates: adapter.adapters.len(),
                bytes: artefact::folder_bytes(&dir)?,
            });
        }
        write_texts(&mut staged, &record).with_context(cannot)?;
        inputs.expect_unchanged()?;
        staged.commit().with_context(cannot)?;
        if let ServerRecord::Refused(why) = &record.servers.sglang {
            output::note(&format!("no file that starts SGLang: {why}"));
        }
        let of_adapters: u64 = record.adapters.iter().map(|adapter| adapter.bytes).sum();
        Ok(Exported { out: self.out.clone(), bytes: files.bytes + of_adapters, record })
    }
}

/// Checks that no two models are served under one name.
fn expect_different(name: &str, adapters: &[NamedAdapter]) -> Result<(), Refused> {
    let mut names = BTreeSet::from([name.to_ascii_lowercase()]);
    // Directories of names that differ in case alone are one directory on some systems.
    let mut names = adapters.iter().filter(|it| !names.insert(it.name.to_ascii_lowercase()));
    match names.next() {
        Some(adapter) => Err(Refused::TwoOfOneName { name: adapter.name.clone() }),
        None => Ok(()),
    }
}

/// Writes the record, the README, and the files that start servers.
fn write_texts(staged: &mut StagedDir, record: &Record) -> std::io::Result<()> {
    let mut json = serde_json::to_string_pretty(record)?;
    json.push('\n');
    staged.file(EXPORT_FILE)?.write_all(json.as_bytes())?;
    staged.file(README)?.write_all(launch::readme(record).as_bytes())?;
    let Servers { vllm, sglang } = &record.servers;
    for (server, text) in [(vllm, launch::vllm(record)), (sglang, launch::sglang(record))] {
        if let ServerRecord::Script(name) = server {
            staged.file(name)?.write_all(text.as_bytes())?;
            make_executable(&staged.path().join(name))?;
        }
    }
    Ok(())
}

/// Makes a file executable for those that may read it.
#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | ((mode & 0o444) >> 2)))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

impl Report for Exported {
    fn print(&self) -> anyhow::Result<()> {
        let Self { out, bytes, record } = self;
        let adapters = output::counted(record.adapters.len(), "adapter", "adapters");
        let (out, bytes) = (out.display(), output::bytes(*bytes));
        output::line(&format!("{out} written: {} with {adapters}, {bytes}", record.name))?;
        for server in [&record.servers.vllm, &record.servers.sglang] {
            if let ServerRecord::Script(name) = server {
                output::line(&format!("  {out}/{name}"))?;
            }
        }
        Ok(())
    }
}
