use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;
use std::{fmt, fs};

use anyhow::{Context, bail};
use clap::Args;
use litemoe_adapter::peft::PeftConfig;
use litemoe_adapter::{
    AdapterRecord, BATCH_TOKENS, LoadedAdapter, SCALES, check_save, choose_scale, is_own, save,
};
use litemoe_core::{Adapters, MoeModel, Plan};
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::input::Rows;
use crate::memory::{MemoryWatch, Peak};
use crate::model::{self, Loaded};
use crate::{artefact, output, progress};

/// The mounting scale asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// The guard chooses on validation rows.
    Auto,
    /// A number in [0, 1].
    Fixed(f32),
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse::<f32>()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(scale)) if (0.0..=1.0).contains(&scale) => Ok(Self::Fixed(scale)),
            _ => Err("a scale is `auto` or a number in [0, 1]".to_owned()),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(scale) => write!(f, "{scale}"),
        }
    }
}

/// Mount an adapter on its foundation, at the scale that is best for it
///
/// Checks that the adapter fits and does something, chooses the scale on validation rows (the guard), and writes a
/// PEFT directory whose base is the foundation. At scale 0 nothing is written: the foundation alone is better.
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// The foundation: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "FOUNDATION")]
    foundation: PathBuf,
    /// The adapter, a PEFT directory.
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// The plan of the proxy the adapter was tuned on; needed where it has updates beside experts, whose numbers differ.
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// The mounted adapter's folder.
    #[arg(long, value_name = "DIR", default_value = "mounted")]
    out: PathBuf,
    /// The validation rows, for --scale auto.
    #[arg(long, value_name = "ROWS", required_if_eq("scale", "auto"))]
    validation: Option<PathBuf>,
    /// auto, or a number in [0, 1].
    #[arg(long, default_value = "auto")]
    scale: Scale,
    /// Validation rows to use, the first ones.
    #[arg(long, default_value_t = 200)]
    rows: usize,
    /// Rows longer than this many tokens are skipped and counted.
    #[arg(long, default_value_t = 512)]
    max_tokens: usize,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Mounted {
    mounted: bool,
    /// Where it was written.
    adapter: Option<PathBuf>,
    scale: f32,
    /// What the guard measured.
    tried: Vec<Tried>,
    seconds: f64,
    peak_bytes: Peak,
}

#[derive(Serialize)]
struct Tried {
    scale: f32,
    loss: f64,
    accuracy: f64,
}

impl MountArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (start, memory) = (Instant::now(), MemoryWatch::start());
        if artefact::same(&self.out, &self.adapter) {
            bail!("--out {} is the adapter itself", self.out.display());
        }
        check_save(&self.out)?;
        let plan = self.plan.as_deref().map(artefact::read::<Plan>).transpose()?;
        let loaded = Loaded::open(&self.foundation, self.device)?;
        let adapter = loaded.mounted(&self.adapter, plan.as_ref())?;
        if adapter
            .record
            .as_ref()
            .is_some_and(|record| record.foundation != *loaded.checkpoint.fingerprint())
        {
            bail!(
                "the adapter {} is to be mounted on its foundation, not on a proxy",
                self.adapter.display()
            );
        }
        if let Some(refit) = adapter.record.as_ref().and_then(|record| record.refit.as_ref()) {
            output::note(&format!(
                "warning: the adapter was tuned on a proxy refitted in {refit}, a change that it does not carry"
            ));
        }
        let (scale, tried) = self.choose(&loaded, &adapter.adapters)?;
        if scale > 0.0 {
            self.write(&loaded, &adapter, scale)?;
        } else if is_own(&self.out) {
            // Whoever serves this folder must not go on serving what was refused now.
            fs::remove_dir_all(&self.out)
                .with_context(|| format!("cannot remove {}", self.out.display()))?;
        }
        let mounted = scale > 0.0;
        let report = Mounted {
            mounted,
            adapter: mounted.then(|| self.out.clone()),
            scale,
            tried,
            seconds: start.elapsed().as_secs_f64(),
            peak_bytes: memory.peak(),
        };
        if self.json { output::json(&report) } else { report.print() }
    }

    fn choose(&self, loaded: &Loaded, adapters: &Adapters) -> anyhow::Result<(f32, Vec<Tried>)> {
        let (Scale::Auto, Some(validation)) = (self.scale, &self.validation) else {
            let Scale::Fixed(scale) = self.scale else { bail!("--scale auto needs --validation") };
            return Ok((scale, Vec::new()));
        };
        let rows =
            Rows::read_first(validation, loaded, self.max_tokens, Some(self.rows))?.sequences;
        let bar = progress::bar((rows.len() * SCALES.len()) as u64, "guarding");
        let guard =
            choose_scale(&loaded.model, adapters, &rows, &SCALES, BATCH_TOKENS, &mut |done| {
                bar.set_position(done as u64);
            })?;
        bar.finish_and_clear();
        let tried = |&(scale, found): &(f32, litemoe_adapter::Evaluation)| Tried {
            scale,
            loss: found.loss(),
            accuracy: found.accuracy(),
        };
        Ok((guard.scale, guard.evaluations.iter().map(tried).collect()))
    }

    fn write(&self, loaded: &Loaded, adapter: &LoadedAdapter, scale: f32) -> anyhow::Result<()> {
        artefact::create_parent(&self.out)?;
        let record = adapter
            .record
            .clone()
            .map(|record| AdapterRecord { scale: record.scale * scale, ..record });
        let base_model = Some(model::base(&loaded.checkpoint));
        let config = PeftConfig { base_model, ..adapter.config.clone() };
        let sites = loaded.model.linear_sites();
        let scaled = adapter.adapters.scaled(scale);
        loaded.expect_effect(&scaled)?;
        Ok(save(&self.out, &scaled, sites, &config, record.as_ref())?)
    }
}

impl Mounted {
    fn print(&self) -> anyhow::Result<()> {
        for Tried { scale, loss, accuracy } in &self.tried {
            output::line(&format!(
                "scale {scale:<4} validation loss {loss:.4}, accuracy {:.1} %",
                100.0 * accuracy
            ));
        }
        output::line(&match &self.adapter {
            Some(path) => format!("{} written: mounted at scale {}", path.display(), self.scale),
            None if self.tried.is_empty() => "not mounted, as asked".to_owned(),
            None => "not mounted: the foundation alone is best".to_owned(),
        });
        Ok(())
    }
}
