//! Whether everything that the stages write may be written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use litemoe_adapter::check_save;
use litemoe_core::Fingerprint;
use litemoe_files::check_target_file;
use litemoe_model::check_proxy_target;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::app::App;
use super::args::CustomizeArgs;
use super::history::{REPORT, SWEEP};
use super::looped::app_dir;
use super::records::Records;
use super::variant::Variants;
use crate::args::refit::proxy_refit;
use crate::args::refit_kind::RefitKind;
use crate::{artefact, disk, output};

/// File of the results of a run.
pub(super) fn results(options: &CustomizeArgs) -> PathBuf {
    options.out.join(if options.is_sweep() { SWEEP } else { REPORT })
}

/// Checks that the disk has room for this many bytes. Returns the free ones.
pub(super) fn expect_room(options: &CustomizeArgs, needed: u64) -> anyhow::Result<u64> {
    let dir = disk::expect_writable(&options.out)?;
    let free = disk::free_bytes(&dir)
        .with_context(|| format!("cannot read the free space of {}", dir.display()))?;
    if needed > free {
        let [needed, free] = [needed, free].map(output::bytes);
        bail!("{} needs {needed}, but {} has {free} free", options.out.display(), dir.display());
    }
    Ok(free)
}

/// Checks that the outputs are not in the foundation's directory, whose files are inputs of the stages, and that the output
/// directory is not in an app's.
pub(super) fn expect_outside(
    options: &CustomizeArgs,
    foundation: Option<&Path>,
    apps: &[App],
) -> anyhow::Result<()> {
    for app in apps {
        if let Some(foundation) = foundation {
            let whose = "the foundation's folder";
            expect_not_in(&app_dir(options, app), foundation, whose)?;
        }
        if let Some(rows) = app.train.parent().filter(|_| app.written.is_none()) {
            expect_not_in(&options.out, rows, "the folder of an app's rows")?;
        }
    }
    Ok(())
}

/// Checks that an output directory, which need not exist, is not an input directory or in it.
fn expect_not_in(out: &Path, input: &Path, whose: &str) -> anyhow::Result<()> {
    let real = |dir: &Path| {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))
    };
    if real(&disk::expect_writable(out)?)?.starts_with(real(input)?) {
        bail!(
            "the outputs would be in {whose}: name a folder outside of {} with --out, not {}",
            input.display(),
            out.display()
        );
    }
    Ok(())
}

/// Checks that no output of an app's stages replaces what the program did not write, and that the directories can be
/// written to.
pub(super) fn check(options: &CustomizeArgs, app: &App, variants: &Variants) -> anyhow::Result<()> {
    let dir = app_dir(options, app);
    let mut dirs = vec![dir.clone(), dir.join("stages")];
    check_experts_file(&dir.join("scores.json"))?;
    for variant in variants.all() {
        dirs.extend([variant.dir.clone(), variant.records.clone()]);
        let proxy = variant.proxy();
        check_experts_file(&variant.plan_file())?;
        check_proxy_target(&proxy)?;
        if variant.refit == RefitKind::LowRank {
            check_save(&proxy_refit(&proxy))?;
        }
        check_adapter(&variant.adapter())?;
        check_save(&variant.mounted())?;
    }
    if !options.no_controls {
        check_adapter(&dir.join("full-adapter"))?;
    }
    dirs.dedup();
    dirs.iter().try_for_each(|dir| disk::expect_writable(dir).map(drop))
}

/// Checks that a stage's record may be written.
pub(super) fn check_record(records: &Records, stage: &str) -> anyhow::Result<()> {
    check_file(&records.file(stage))
}

fn check_file(path: &Path) -> anyhow::Result<()> {
    check_target_file(path).with_context(|| format!("cannot write {}", path.display()))
}

/// What `scores.json` and `plan.json` of every version have in common.
#[derive(Deserialize)]
struct ExpertsFile {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(rename = "fingerprint")]
    _fingerprint: Fingerprint,
    #[serde(rename = "layers")]
    _layers: BTreeMap<String, IgnoredAny>,
}

/// Checks that a file of scores or of a plan replaces only such a file.
fn check_experts_file(path: &Path) -> anyhow::Result<()> {
    check_file(path)?;
    if !path.exists() {
        return Ok(());
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    match serde_json::from_reader::<_, ExpertsFile>(BufReader::new(file)) {
        Ok(_) => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!("{} holds what this program did not write: move it away", path.display())
        }),
    }
}

/// Checks an adapter's directory, and the checkpoint that tuning writes next to it.
fn check_adapter(adapter: &Path) -> anyhow::Result<()> {
    check_save(adapter)?;
    let state = artefact::checkpoint_of(adapter);
    artefact::expect_checkpoint(&state)
}
