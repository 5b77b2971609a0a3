use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::tensor::{DType, Tensor, TensorData};
use litemoe_adapter::peft::PeftConfig;
use litemoe_adapter::{
    AdapterRecord, LoraOptions, RECORD_VERSION, SiteMap, TuneMetrics, TuneOptions, check_save, save,
};
use litemoe_core::{
    Adapters, ExpertId, ExpertPart, ExpertSource, ExpertWeights, LanguageModel, LayerId, Lora,
    MoeModel, Plan, Site, WeightDtype,
};
use litemoe_files::{StagedDir, TargetLock};
use litemoe_merge::{DownChange, LayerRefit, RefitOptions, TakeLayer, refit};
use litemoe_model::{Checkpoint, Model, StagedProxy, stage_proxy};
use serde::{Deserialize, Serialize};

use crate::args::refit::RefitArgs;
use crate::args::refit_kind::RefitKind;
use crate::input::Rows;
use crate::input_files::InputFiles;
use crate::model::{self, Loaded, Opened};
use crate::{artefact, output, progress};

/// Refit of a proxy: options, foundation and calibration rows.
pub(super) struct Refit<'a> {
    args: &'a RefitArgs,
    /// Output directory of the proxy.
    out: &'a Path,
    foundation: Loaded,
    rows: Rows,
    /// Lock of the adapter's directory.
    _lock: Option<TargetLock>,
}

/// Report of a refit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefitReport {
    kind: RefitKind,
    rank: Option<usize>,
    /// Adapter directory of the low-rank change.
    adapter: Option<PathBuf>,
    sequences: usize,
    skipped: usize,
    layers: Vec<LayerReport>,
}

/// Relative residual ‖t − ZW‖² / ‖t‖² of a layer on the calibration rows, before and after.
#[derive(Debug, Serialize, Deserialize)]
struct LayerReport {
    layer: LayerId,
    tokens: u64,
    before: f64,
    after: f64,
}

impl<'a> Refit<'a> {
    /// Loads what a refit needs; `None` without `--refit`.
    pub(super) fn prepared(
        args: &'a RefitArgs,
        model: &Path,
        out: &'a Path,
        inputs: &[&Path],
    ) -> anyhow::Result<Option<Self>> {
        args.check(out)?;
        let Some(data) = &args.data else { return Ok(None) };
        let mut lock = None;
        if args.refit == RefitKind::LowRank {
            let adapter = args.adapter(out);
            lock = Some(artefact::lock_dir(&adapter, inputs)?);
            check_save(&adapter)?;
        }
        args.device.open()?;
        let opened = Opened::open(model)?;
        let rows = Rows::read(data, &opened, args.row_args)?.drawn(args.rows, args.seed);
        let foundation = opened.stream(args.device)?;
        Ok(Some(Self { args, out, foundation, rows, _lock: lock }))
    }

    pub(super) fn foundation(&self) -> &Checkpoint {
        &self.foundation.checkpoint
    }

    /// Refits a proxy, then renames it and its adapter to their targets.
    pub(super) fn run(
        &self,
        plan: &Plan,
        staged: StagedProxy,
        inputs: &InputFiles,
    ) -> anyhow::Result<RefitReport> {
        let checkpoint = Checkpoint::open(staged.path())?;
        let proxy = Model::stream(&checkpoint, &self.foundation.model.device())?;
        match self.args.refit {
            RefitKind::LowRank => self.low_rank(plan, staged, &checkpoint, &proxy, inputs),
            _ => self.full(plan, &checkpoint, &proxy, inputs),
        }
    }

    /// Writes the change as an adapter and leaves the proxy unchanged.
    fn low_rank(
        &self,
        plan: &Plan,
        staged: StagedProxy,
        checkpoint: &Checkpoint,
        proxy: &Model,
        inputs: &InputFiles,
    ) -> anyhow::Result<RefitReport> {
        let sites = down_sites(proxy)?;
        let mut adapters = Adapters::default();
        let layers = self.solved(proxy, &mut |layer, change| {
            add_change(layer, change, &sites, &mut adapters);
            Ok(())
        })?;
        let target = self.args.adapter(self.out);
        let record = self.record(plan, checkpoint, &layers);
        let config = PeftConfig {
            base_model: Some(model::base_at(self.out)),
            task_type: Some("CAUSAL_LM".to_owned()),
            ..PeftConfig::default()
        };
        inputs.expect_unchanged()?;
        save(&target, &adapters, proxy.linear_sites(), &config, Some(&record))?;
        staged.commit()?;
        Ok(self.report(Some(target), layers))
    }

    /// Writes the proxy again with the changed weights. The changes are kept on disk, because layers are solved in
    /// execution order and written in order of their names.
    fn full(
        &self,
        plan: &Plan,
        checkpoint: &Checkpoint,
        proxy: &Model,
        inputs: &InputFiles,
    ) -> anyhow::Result<RefitReport> {
        let changes = Changes(StagedDir::new(self.out, |_| true)?);
        let layers = self.solved(proxy, &mut |layer, change| changes.put(layer, &change))?;
        proxy.release();
        let bar = progress::begin("rewriting", plan.layers.len() as u64, "layers");
        let refitted =
            stage_proxy(self.foundation(), plan, self.out, Some("full"), &mut |layer, plan| {
                bar.add(1);
                changes.added(layer, plan.groups.len(), checkpoint)
            })?;
        bar.finish();
        inputs.expect_unchanged()?;
        refitted.commit()?;
        Ok(self.report(None, layers))
    }

    /// Solves the layers in order and passes each change to `take`.
    fn solved(
        &self,
        proxy: &Model,
        take: &mut dyn FnMut(LayerId, DownChange) -> Result<(), Box<dyn Error + Send + Sync>>,
    ) -> anyhow::Result<Vec<LayerReport>> {
        let steps = 2 * self.rows.sequences.len() * proxy.n_blocks();
        let bar = progress::begin("refitting", steps as u64, "row-blocks");
        let mut layers = Vec::new();
        let mut take_layer = |LayerRefit { layer, tokens, solution }: LayerRefit| {
            let (before, after) = (solution.before, solution.after);
            bar.detail(format!("layer {layer}: {before:.3} to {after:.3}"));
            layers.push(LayerReport { layer, tokens, before, after });
            take(layer, solution.change)
        };
        let take_layer: TakeLayer<'_> = &mut take_layer;
        let options = RefitOptions { rank: self.args.rank(), ..RefitOptions::default() };
        let (foundation, rows) = (&self.foundation.model, &self.rows.sequences);
        refit(foundation, proxy, rows, &options, take_layer, |done| bar.set(done as u64))?;
        foundation.release();
        bar.finish();
        Ok(layers)
    }

    fn record(&self, plan: &Plan, proxy: &Checkpoint, layers: &[LayerReport]) -> AdapterRecord {
        let rank = self.args.rank().unwrap_or_default();
        AdapterRecord {
            version: RECORD_VERSION,
            program: format!("litemoe {}", env!("CARGO_PKG_VERSION")),
            foundation: plan.fingerprint.clone(),
            trained_on: proxy.fingerprint().clone(),
            plan: Some(plan.hash()),
            refit: None,
            map: SiteMap::Proxy,
            mount: None,
            lora: LoraOptions {
                rank,
                expert_rank: rank,
                alpha: f64::from(SCALE) * rank as f64,
                targets: vec!["down_proj".to_owned()],
                ..LoraOptions::default()
            },
            // The refit has no training steps.
            tune: TuneOptions { steps: 0, seed: self.args.seed, ..TuneOptions::default() },
            dtype: WeightDtype::F32,
            metrics: TuneMetrics {
                best_step: 0,
                validation_loss: None,
                validation_accuracy: None,
                tokens: layers.first().map_or(0, |layer| layer.tokens),
            },
            peft_sha256: None,
        }
    }

    fn report(&self, adapter: Option<PathBuf>, layers: Vec<LayerReport>) -> RefitReport {
        RefitReport {
            kind: self.args.refit,
            rank: self.args.rank(),
            adapter,
            sequences: self.rows.sequences.len(),
            skipped: self.rows.skipped,
            layers,
        }
    }
}

impl RefitReport {
    pub(super) fn print(&self) -> anyhow::Result<()> {
        let mean = |value: fn(&LayerReport) -> f64| {
            self.layers.iter().map(value).sum::<f64>() / self.layers.len() as f64
        };
        output::line(&format!(
            "refitted on {} rows: the residual is {:.1} % of what the experts should give, was {:.1} % (mean of {} layers)",
            self.sequences,
            100.0 * mean(|layer| layer.after),
            100.0 * mean(|layer| layer.before),
            self.layers.len()
        ))?;
        if let Some(adapter) = &self.adapter {
            output::line(&format!("{} written: `tune --init` goes on from it", adapter.display()))?;
        }
        Ok(())
    }
}

/// LoRA scale α/r of the change, as with default tuning options.
const SCALE: f32 = 2.0;

/// Sites of the experts' down projections.
fn down_sites(proxy: &Model) -> anyhow::Result<BTreeMap<ExpertId, Site>> {
    let down = |site: &litemoe_core::LinearSite| match site.role.expert() {
        Some((expert, ExpertPart::Down)) => Some((expert, site.site.clone())),
        _ => None,
    };
    let sites: BTreeMap<_, _> = proxy.linear_sites().iter().filter_map(down).collect();
    proxy.release();
    if sites.is_empty() {
        bail!("--refit low-rank: the proxy has no experts that an adapter could update");
    }
    Ok(sites)
}

/// Adds a layer's low-rank change to the adapters.
fn add_change(
    layer: LayerId,
    change: DownChange,
    sites: &BTreeMap<ExpertId, Site>,
    adapters: &mut Adapters,
) {
    let DownChange::LowRank { a, b } = change else { return };
    let b = b.div_scalar(SCALE);
    for (expert, a) in a.into_iter().enumerate() {
        if let Some(site) = sites.get(&layer.expert(expert)) {
            adapters.insert(site.clone(), Lora { a, b: b.clone(), scale: SCALE });
        }
    }
}

/// Full-rank changes, one file per layer, in a directory that is never committed.
struct Changes(StagedDir);

impl Changes {
    fn file(&self, layer: LayerId) -> PathBuf {
        self.0.path().join(layer.to_string())
    }

    fn put(&self, layer: LayerId, change: &DownChange) -> Result<(), Box<dyn Error + Send + Sync>> {
        let DownChange::Full(down) = change else { return Ok(()) };
        let data = Tensor::cat(down.clone(), 0).into_data();
        Ok(fs::write(self.file(layer), data.as_bytes())?)
    }

    /// Experts of a layer with the changes added.
    fn added(
        &self,
        layer: LayerId,
        n_experts: usize,
        proxy: &Checkpoint,
    ) -> Result<Vec<Option<ExpertWeights>>, Box<dyn Error + Send + Sync>> {
        let device = crate::args::device::cpu()?;
        let experts = proxy.experts(&device);
        let bytes = fs::read(self.file(layer))?;
        let size = bytes.len() / n_experts;
        let added = |index: usize| {
            let expert = experts.expert(layer.expert(index))?;
            let [d_model, d_expert] = expert.down.dims();
            let bytes = bytes[index * size..(index + 1) * size].to_vec();
            let change = TensorData::from_bytes_vec(bytes, [d_expert, d_model], DType::F32);
            let change = Tensor::<2>::from_data(change, &device).transpose();
            Ok(Some(ExpertWeights { down: expert.down + change, ..expert }))
        };
        (0..n_experts).map(added).collect()
    }
}
