//! Whether everything that the stages write may be written.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use litemoe_adapter::check_save;
use litemoe_files::check_target_file;
use litemoe_model::check_proxy_target;

use super::app::App;
use super::args::CustomizeArgs;
use super::looped::app_dir;
use super::records::Records;
use super::variant::Variants;
use crate::args::refit::proxy_refit;
use crate::args::refit_kind::RefitKind;
use crate::{artefact, disk, output};

/// File of the results of a run.
pub(super) fn results(options: &CustomizeArgs) -> PathBuf {
    options.out.join(if options.is_sweep() { "sweep.json" } else { "report.json" })
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

/// Checks that no output of an app's stages replaces what the program did not write, and that the directories can be
/// written to.
pub(super) fn check(options: &CustomizeArgs, app: &App, variants: &Variants) -> anyhow::Result<()> {
    let dir = app_dir(options, app);
    let mut dirs = vec![dir.clone(), dir.join("stages")];
    check_file(&dir.join("scores.json"))?;
    for variant in variants.all() {
        dirs.extend([variant.dir.clone(), variant.records.clone()]);
        let proxy = variant.proxy();
        check_file(&variant.plan_file())?;
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

/// Checks an adapter's directory, and the checkpoint that tuning writes next to it.
fn check_adapter(adapter: &Path) -> anyhow::Result<()> {
    check_save(adapter)?;
    let state = artefact::checkpoint_of(adapter);
    artefact::expect_checkpoint(&state)
}
