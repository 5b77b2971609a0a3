mod report;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use litemoe_adapter::peft::PeftConfig;
use litemoe_adapter::{
    AdapterRecord, Guard, GuardOptions, KeptExperts, LoadedAdapter, MountChoice, MountRecord,
    MountRouting, check_save, choose_mount, is_own, save,
};
use litemoe_core::{MoeModel, Plan, Sequence};
use litemoe_files::TargetLock;
use serde::{Deserialize, Serialize};

use self::report::Measured;
pub(crate) use self::report::Mounted;
use crate::args::cache::CacheArgs;
use crate::args::device::DeviceArgs;
use crate::args::mount::{MountOptions, Scale};
use crate::args::rows::RowArgs;
use crate::args::weights::WeightArgs;
use crate::input::Rows;
use crate::input_files::InputFiles;
use crate::memory::MemoryWatch;
use crate::model::{self, Loaded, Opened, matrix_bytes};
use crate::row_check::{self, Source};
use crate::splits::Split;
use crate::work::{self, Work};
use crate::{artefact, hub, output, progress};

/// Mount an adapter on its foundation, with the best routing and scale
///
/// Checks that the adapter fits the foundation and changes its logits, evaluates routings and scales on validation rows
/// (the guard), and writes the best choice as an adapter directory of the foundation. If the foundation without the
/// adapter is best, nothing is written.
///
/// The routing restricts which of the foundation's experts the app's tokens can be routed to. With full routing the
/// output is a plain PEFT directory. PEFT cannot express any other routing: the output then has its own peft_type, so
/// that other programs refuse it instead of computing something else.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct MountArgs {
    /// The foundation: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "FOUNDATION")]
    pub(crate) foundation: PathBuf,
    /// The adapter, a PEFT directory.
    #[arg(value_name = "ADAPTER")]
    pub(crate) adapter: PathBuf,
    /// Plan of the proxy that the adapter was tuned on: maps the proxy's experts to the foundation's.
    #[arg(long, value_name = "PLAN")]
    pub(crate) plan: Option<PathBuf>,
    /// Output directory of the mounted adapter.
    #[arg(long, value_name = "DIR", default_value = "mounted")]
    pub(crate) out: PathBuf,
    /// File of validation rows; required where routing or scale is chosen automatically.
    #[arg(long, value_name = "ROWS")]
    pub(crate) validation: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: MountOptions,
    /// Write a plain PEFT directory, with full routing, and print the cost on the validation rows compared with the
    /// best routing.
    #[arg(long)]
    pub(crate) portable: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) row_args: RowArgs,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) weights: WeightArgs,
}

/// What is read before the weights.
struct Prepared {
    opened: Opened,
    adapter: LoadedAdapter,
    kept: Option<KeptExperts>,
    /// Validation rows, if a choice is made by them.
    rows: Option<Vec<Sequence>>,
}

impl MountArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if let Some(rows) = &self.validation {
            row_check::note(&[Source::of(Split::Validation, rows)])?;
        }
        work::run(&self, self.json)
    }

    /// Checks the options before anything is read.
    fn check(&self) -> anyhow::Result<()> {
        let GuardOptions { routing, scale, .. } = self.options.guard();
        if let Some(routing) = routing.filter(|&it| self.portable && it != MountRouting::Full) {
            bail!("--portable is full routing, but --routing is {routing}");
        }
        let is_free = routing.is_none() && self.plan.is_some() && !self.portable;
        match self.validation {
            None if scale.is_none() => bail!("--scale auto needs --validation"),
            None if is_free && scale != Some(Scale::NONE) => {
                bail!("--routing auto needs --validation")
            }
            _ => Ok(check_save(&self.out)?),
        }
    }

    /// Locks the output, and takes the stamps of the inputs.
    fn lock(&self) -> anyhow::Result<(TargetLock, InputFiles)> {
        let foundation = hub::locate(&self.foundation)?;
        let mut inputs = vec![foundation.as_path(), &self.adapter];
        inputs.extend(self.plan.as_deref().into_iter().chain(self.validation.as_deref()));
        Ok((artefact::lock_dir(&self.out, &inputs)?, InputFiles::of(&inputs)))
    }

    fn check_adapter(
        &self,
        opened: &Opened,
        adapter: &LoadedAdapter,
        plan: Option<&Plan>,
    ) -> anyhow::Result<()> {
        let Some(record) = &adapter.record else { return Ok(()) };
        let dir = self.adapter.display();
        if let Some(refit) = &record.refit {
            output::note(&format!(
                "warning: the adapter was tuned on a proxy refitted in {refit}, a change that it does not carry"
            ));
        }
        if record.foundation != *model::base_of(&opened.checkpoint, &self.adapter) {
            bail!("the adapter {dir} is to be mounted on its foundation, not on a proxy");
        }
        if record.mount.is_some() {
            bail!("the adapter {dir} is mounted already: mount the one that was tuned");
        }
        let is_full = self.portable || self.options.guard().routing == Some(MountRouting::Full);
        match &record.plan {
            Some(hash) if plan.is_none() && !is_full => bail!(
                "the adapter {dir} was tuned on the proxy of the plan {hash}: give it with --plan, so that tokens can be \
                 kept to that proxy's experts, or ask for --routing full"
            ),
            _ => Ok(()),
        }
    }

    /// Checks what can be known before the weights are read; reads plan, adapter and validation rows.
    fn prepared(&self) -> anyhow::Result<Prepared> {
        self.device.open()?;
        let plan = self.plan.as_deref().map(artefact::read::<Plan>).transpose()?;
        let opened = Opened::open(&self.foundation)?;
        let adapter = opened.adapter(&self.adapter, plan.as_ref(), self.device)?;
        self.check_adapter(&opened, &adapter, plan.as_ref())?;
        let kept = plan.as_ref().map(KeptExperts::of_plan);
        let options = self.options.guard();
        if options.scale == Some(Scale::NONE) {
            return Ok(Prepared { opened, adapter, kept, rows: None });
        }
        options.check(kept.as_ref())?;
        let limit = Some(self.options.guard_rows);
        let read = |file| Rows::read_first(file, &opened, self.row_args, limit);
        let rows = self.validation.as_deref().map(read).transpose()?;
        Ok(Prepared { rows: rows.map(|rows| rows.sequences), opened, adapter, kept })
    }

    /// The guard's choice, or the given routing and scale if neither is auto.
    fn choose(
        &self,
        loaded: &Loaded,
        adapter: &LoadedAdapter,
        kept: Option<&KeptExperts>,
        rows: Option<&[Sequence]>,
    ) -> anyhow::Result<Guard> {
        let options = self.options.guard();
        if options.scale == Some(Scale::NONE) {
            return Ok(Guard { choice: None, tried: Vec::new() });
        }
        let is_full = self.portable || kept.is_none();
        let routing = if is_full { Some(MountRouting::Full) } else { options.routing };
        let Some(rows) = rows else {
            let choice = routing.zip(options.scale);
            let choice = choice.map(|(routing, scale)| MountChoice { routing, scale });
            return Ok(Guard { choice, tried: Vec::new() });
        };
        let best = guard(loaded, adapter, kept, rows, options)?;
        if !self.portable {
            return Ok(best);
        }
        if kept.is_none() {
            return Ok(best);
        }
        let full = GuardOptions { routing, ..options };
        let portable = guard(loaded, adapter, kept, rows, full)?;
        let is_new = |choice| portable.tried.iter().all(|tried| tried.choice != choice);
        let others = best.tried.into_iter().filter(|tried| is_new(tried.choice));
        let tried = portable.tried.iter().copied().chain(others).collect();
        Ok(Guard { choice: portable.choice, tried })
    }

    fn write(
        &self,
        loaded: &Loaded,
        adapter: &LoadedAdapter,
        choice: MountChoice,
        kept: Option<KeptExperts>,
        guard: &Guard,
    ) -> anyhow::Result<()> {
        let mounted = choice.mount(&adapter.mounted.adapters, kept.as_ref());
        loaded.expect_effect(&mounted)?;
        let MountChoice { routing, scale } = choice;
        let mount = MountRecord {
            routing,
            scale,
            experts: kept,
            tried: guard.tried.clone(),
            dtype: self.weights.of(&loaded.checkpoint),
        };
        let record = adapter.record.clone();
        let record = record.map(|record| AdapterRecord { mount: Some(mount), ..record });
        let config = PeftConfig {
            base_model: Some(model::base(&loaded.checkpoint)),
            routed: mounted.router_bias.is_some(),
            ..adapter.config.clone()
        };
        let sites = loaded.model.linear_sites();
        Ok(save(&self.out, &mounted.adapters, sites, &config, record.as_ref())?)
    }

    /// Removes an earlier mounted adapter of this path, so that it is no longer served.
    fn remove(&self) -> anyhow::Result<()> {
        let record = if is_own(&self.out) { AdapterRecord::read(&self.out)? } else { None };
        if record.is_some_and(|record| record.mount.is_some()) {
            fs::remove_dir_all(&self.out)
                .with_context(|| format!("cannot remove {}", self.out.display()))?;
        }
        Ok(())
    }
}

impl Work for MountArgs {
    type Report = Mounted;

    fn execute(&self) -> anyhow::Result<Mounted> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        self.check()?;
        let (_lock, inputs) = self.lock()?;
        let Prepared { opened, adapter, kept, rows } = self.prepared()?;
        let loaded = opened.load(self.device, self.weights)?;
        let loaded = loaded.cached_as(CacheArgs::default(), self.weights)?;
        loaded.expect_mounted(&self.adapter, &adapter.mounted)?;
        let guard = self.choose(&loaded, &adapter, kept.as_ref(), rows.as_deref())?;
        inputs.expect_unchanged()?;
        match guard.choice {
            Some(choice) => self.write(&loaded, &adapter, choice, kept, &guard)?,
            None => self.remove()?,
        }
        let is_mounted = guard.choice.is_some();
        Ok(Mounted {
            mounted: is_mounted,
            adapter: is_mounted.then(|| self.out.clone()),
            adapter_bytes: if is_mounted { artefact::folder_bytes(&self.out)? } else { 0 },
            memory_bytes: if is_mounted { matrix_bytes(&adapter.mounted.adapters) } else { 0 },
            choice: guard.choice,
            dtype: self.weights.of(&loaded.checkpoint),
            portable: self.portable,
            by: self.options.by,
            tried: guard.tried.iter().map(Measured::of).collect(),
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        })
    }
}

/// Runs the guard with a progress bar.
fn guard(
    loaded: &Loaded,
    adapter: &LoadedAdapter,
    kept: Option<&KeptExperts>,
    rows: &[Sequence],
    options: GuardOptions,
) -> anyhow::Result<Guard> {
    let n_tried = options.max_tried(kept.is_some());
    let bar = progress::begin("guarding", (rows.len() * n_tried) as u64, "rows");
    let adapters = &adapter.mounted.adapters;
    let found = choose_mount(&loaded.model, adapters, kept, rows, options, &mut |done| {
        bar.set(done as u64);
    })?;
    bar.finish();
    for tried in &found.tried {
        tracing::info!(?tried, "tried a routing and scale");
    }
    Ok(found)
}
