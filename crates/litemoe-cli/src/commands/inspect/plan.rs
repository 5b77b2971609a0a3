use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use litemoe_core::{LayerId, LayerPlan, MoeLayer, Plan, PlanMethod, PlanOptions};
use serde::Serialize;

use super::canvas::Canvas;
use super::print::field;
use super::view::View;
use crate::{artefact, model, output};

/// Report on `plan.json`.
#[derive(Serialize)]
pub(super) struct PlanView {
    kind: &'static str,
    hash: String,
    fingerprint: String,
    input_sha256: String,
    options: PlanOptions,
    kept: usize,
    merged: usize,
    removed: usize,
    /// Bytes of the experts; `None` without the foundation.
    bytes: Option<Bytes>,
    layers: BTreeMap<LayerId, LayerView>,
}

/// Bytes of the routed experts, as a proxy has them.
#[derive(Serialize)]
struct Bytes {
    kept: u64,
    removed: u64,
}

#[derive(Serialize)]
struct LayerView {
    n_experts: usize,
    /// Kept experts that absorb none.
    kept: Vec<usize>,
    /// Absorbed experts of each centroid.
    centroids: BTreeMap<usize, Vec<usize>>,
    removed: Vec<usize>,
}

impl PlanView {
    /// View of a plan; its foundation gives the bytes.
    pub(super) fn of(plan: &Plan, path: &Path, foundation: Option<&Path>) -> anyhow::Result<Self> {
        let bytes = foundation.map(|foundation| bytes(plan, path, foundation)).transpose()?;
        let layers: BTreeMap<_, _> =
            plan.layers.iter().map(|(&id, layer)| (id, LayerView::of(layer))).collect();
        let kept = plan.layers.values().map(|layer| layer.groups.len()).sum();
        let removed = plan.layers.values().map(|layer| layer.removed.len()).sum();
        let merged = layers.values().flat_map(|layer| layer.centroids.values()).map(Vec::len).sum();
        Ok(Self {
            kind: "plan",
            hash: plan.hash(),
            fingerprint: plan.fingerprint.to_string(),
            input_sha256: plan.input_sha256.clone(),
            options: plan.options.clone(),
            kept,
            merged,
            removed,
            bytes,
            layers,
        })
    }

    fn experts(&self) -> String {
        let Self { kept, merged, removed, .. } = self;
        let counts = format!("{kept} kept, {merged} merged, {removed} pruned");
        match &self.bytes {
            None => format!("{counts} (with --model also in bytes)"),
            Some(Bytes { kept, removed }) => {
                let (kept, removed) = (output::bytes(*kept), output::bytes(*removed));
                format!("{counts}; {kept} kept, {removed} removed")
            }
        }
    }
}

impl View for PlanView {
    fn print(&self, canvas: Canvas) -> anyhow::Result<()> {
        let PlanOptions { budget, score, method, router } = &self.options;
        let method = match method {
            PlanMethod::Prune => "pruning".to_owned(),
            PlanMethod::Litemoe(options) => format!(
                "merging (litemoe): similarity {}, cold below {}, at most {} merged into one, alignment {}",
                options.similarity, options.alpha, options.max_merged, options.alignment
            ),
        };
        field("plan", &self.hash)?;
        field("foundation", &self.fingerprint)?;
        field("input", &self.input_sha256)?;
        field("method", &format!("{method}; budget {budget}, score {score}"))?;
        field("router", router.name())?;
        field("experts", &self.experts())?;
        let [kept, centroid, merged, removed] = [('▒', 'k'), ('█', 'c'), ('░', 'm'), ('·', '.')]
            .map(|(block, ascii)| canvas.pick(block, ascii));
        output::line(&format!(
            "one cell per expert: {kept} kept, {centroid} kept and merged with others, {merged} merged, {removed} pruned"
        ))?;
        for (layer, view) in &self.layers {
            let mut cells = vec![removed; view.n_experts];
            let mut draw = |expert: usize, cell: char| {
                if let Some(place) = cells.get_mut(expert) {
                    *place = cell;
                }
            };
            view.kept.iter().for_each(|&expert| draw(expert, kept));
            for (&host, absorbed) in &view.centroids {
                draw(host, centroid);
                absorbed.iter().for_each(|&expert| draw(expert, merged));
            }
            let n_kept = view.kept.len() + view.centroids.len();
            let margin = format!("layer {layer}, {n_kept} of {}", view.n_experts);
            let cells: String = cells.into_iter().collect();
            canvas.lines(&margin, &cells).iter().try_for_each(|line| output::line(line))?;
        }
        Ok(())
    }
}

impl LayerView {
    fn of(layer: &LayerPlan) -> Self {
        let (single, merged): (Vec<_>, Vec<_>) =
            layer.groups.iter().partition(|group| group.absorbed.is_empty());
        let absorbed = |group: &&litemoe_core::Group| {
            (group.centroid, group.absorbed.iter().map(|absorbed| absorbed.expert).collect())
        };
        Self {
            n_experts: layer.n_experts,
            kept: single.into_iter().map(|group| group.centroid).collect(),
            centroids: merged.iter().map(absorbed).collect(),
            removed: layer.removed.clone(),
        }
    }
}

/// Reads a plan, and checks that it contradicts nothing in itself.
pub(super) fn read(path: &Path) -> anyhow::Result<Plan> {
    let plan: Plan = artefact::read(path)?;
    let layer = |(&id, layer): (&LayerId, &LayerPlan)| {
        let mut absorbed = layer.groups.iter().flat_map(|group| &group.absorbed);
        let alignment = absorbed.find_map(|absorbed| absorbed.alignment.as_ref());
        MoeLayer {
            id,
            n_experts: layer.n_experts,
            top_k: 0,
            groups: None,
            d_model: 0,
            d_expert: alignment.map_or(0, Vec::len),
            expert_bytes: 0,
        }
    };
    let layers: Vec<MoeLayer> = plan.layers.iter().map(layer).collect();
    plan.check(&plan.fingerprint, &layers).with_context(|| path.display().to_string())?;
    Ok(plan)
}

/// Bytes of the kept experts and of all others.
fn bytes(plan: &Plan, path: &Path, foundation: &Path) -> anyhow::Result<Bytes> {
    let checkpoint = model::open(foundation)?;
    plan.check(checkpoint.fingerprint(), checkpoint.moe_layers())
        .with_context(|| format!("{} does not fit {}", path.display(), foundation.display()))?;
    let layers = checkpoint.moe_layers().iter();
    let kept =
        layers.map(|layer| plan.layers[&layer.id].groups.len() as u64 * layer.expert_bytes).sum();
    Ok(Bytes { kept, removed: checkpoint.expert_bytes() - kept })
}
