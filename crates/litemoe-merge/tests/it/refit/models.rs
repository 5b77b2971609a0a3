//! Tiny checkpoints of every family, and proxies of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    AbsorbedExpert, Adapters, ExpertPart, ExpertSource, ExpertWeights, Group, Input, LanguageModel,
    LayerId, LayerPlan, Lora, MoeLayer, MoeModel, PLAN_VERSION, Pass, Plan, PlanOptions,
    RouterRule, Sequence,
};
use litemoe_merge::{DownChange, LayerRefit, RefitOptions, merged_experts, refit};
use litemoe_model::{Checkpoint, Model, stage_proxy, write_proxy};
use tempfile::TempDir;

/// Folders of the decoder-only families.
pub(super) const FAMILIES: [&str; 14] = [
    "deepseek_v2",
    "deepseek_v3",
    "fused",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "granitemoe",
    "llama4_text",
    "mixtral",
    "mixtral_fused",
    "olmoe",
    "phimoe",
    "qwen2_moe",
    "qwen3_moe",
    "windowed",
];

pub(super) fn checkpoint(name: &str) -> Checkpoint {
    let dir: PathBuf = litemoe_fixtures::tiny_dir().with_file_name(name);
    Checkpoint::open(dir).unwrap()
}

/// A foundation and a proxy of it.
pub(super) struct Pair {
    pub(super) foundation: Model,
    pub(super) proxy: Model,
    plan: Plan,
    /// Of the foundation and the proxy.
    checkpoints: [Checkpoint; 2],
    dir: TempDir,
}

impl Pair {
    /// A proxy that keeps about half the experts; one expert is merged unless the router rule is `drop_rows`.
    pub(super) fn new(name: &str, router: RouterRule) -> Self {
        let (dir, foundation) = (TempDir::new().unwrap(), checkpoint(name));
        let (plan, target) = (plan(&foundation, router), dir.path().join("proxy"));
        let device = Device::flex();
        let experts = foundation.experts(&device);
        write_proxy(&foundation, &plan, &target, &mut |layer, plan| {
            Ok(merged_experts(layer, plan, &experts)?)
        })
        .unwrap();
        let proxy = Checkpoint::open(target).unwrap();
        Self {
            foundation: Model::load(&foundation, &device).unwrap(),
            proxy: Model::load(&proxy, &device).unwrap(),
            plan,
            checkpoints: [foundation.clone(), proxy],
            dir,
        }
    }

    /// The proxy with full-rank changes written to its weight files.
    pub(super) fn rewritten(&self, layers: &[LayerRefit]) -> Model {
        let ([foundation, proxy], device) = (&self.checkpoints, Device::flex());
        let target = self.dir.path().join("rewritten");
        let changed = |layer: LayerId, expert: usize| {
            let read = proxy.experts(&device).expert(layer.expert(expert)).unwrap();
            let found = layers.iter().find(|found| found.layer == layer);
            match found.map(|found| &found.solution.change) {
                Some(DownChange::Full(down)) => {
                    let down = read.down + down[expert].clone().transpose();
                    Some(ExpertWeights { down, ..read })
                }
                _ => None,
            }
        };
        stage_proxy(foundation, &self.plan, &target, Some("full"), &mut |layer, plan| {
            Ok((0..plan.groups.len()).map(|expert| changed(layer, expert)).collect())
        })
        .unwrap()
        .commit()
        .unwrap();
        Model::load(&Checkpoint::open(&target).unwrap(), &device).unwrap()
    }

    pub(super) fn refit(&self, rows: &[Sequence], options: &RefitOptions) -> Vec<LayerRefit> {
        let mut found = Vec::new();
        let mut take = |layer| {
            found.push(layer);
            Ok(())
        };
        let rows: Vec<&[u32]> = rows.iter().map(|row| row.tokens.as_slice()).collect();
        let mut done = 0;
        refit(&self.foundation, &self.proxy, &rows, options, &mut take, |now| done = now).unwrap();
        assert_eq!(done, 2 * rows.len() * self.proxy.n_blocks());
        found
    }

    /// Rows whose completions are the foundation's own outputs.
    pub(super) fn rows(&self, count: usize) -> Vec<Sequence> {
        let vocab = self.foundation.vocab();
        let row = |seed: usize| {
            let prompt = litemoe_fixtures::uniform(seed as u64, 12);
            let mut tokens: Vec<u32> =
                prompt.into_iter().map(|x| ((x + 1.0) * 0.5 * vocab as f32) as u32).collect();
            for _ in 0..8 {
                tokens.push(next(&self.foundation, &tokens));
            }
            let completion = (0..tokens.len()).map(|at| at >= 12).collect();
            Sequence { tokens, completion, encoder: None }
        };
        (0..count).map(row).collect()
    }

    /// ‖foundation − proxy‖² of the residual streams after the last block.
    pub(super) fn distance(&self, rows: &[Sequence], adapters: &Adapters) -> f64 {
        self.distance_of(&self.proxy, rows, adapters)
    }

    /// The same distance for another proxy.
    pub(super) fn distance_of(&self, proxy: &Model, rows: &[Sequence], adapters: &Adapters) -> f64 {
        let input = Input::decoder(rows.iter().map(|row| row.tokens.clone()).collect());
        let ahead = self.foundation.stream(&input, &mut Pass::plain()).hidden;
        let behind = proxy.stream(&input, &mut Pass::adapted(adapters)).hidden;
        let values: Vec<f64> = (ahead - behind).to_data().iter().collect();
        values.iter().map(|value| value * value).sum()
    }
}

fn next(model: &Model, tokens: &[u32]) -> u32 {
    let logits = model.logits(&Input::decoder(vec![tokens.to_vec()]), &mut Pass::plain());
    let last = logits.narrow(0, tokens.len() - 1, 1);
    last.argmax(1).into_data().iter::<i64>().next().unwrap() as u32
}

fn plan(foundation: &Checkpoint, router: RouterRule) -> Plan {
    let layers: BTreeMap<LayerId, LayerPlan> =
        foundation.moe_layers().iter().map(|layer| (layer.id, halved(layer, router))).collect();
    Plan {
        version: PLAN_VERSION,
        fingerprint: foundation.fingerprint().clone(),
        input_sha256: String::new(),
        options: PlanOptions { router, ..PlanOptions::default() },
        layers,
    }
}

/// Keeps the first half of the experts of every group.
fn halved(layer: &MoeLayer, router: RouterRule) -> LayerPlan {
    let n_groups = layer.groups.map_or(1, |groups| groups.n_groups);
    let size = layer.n_experts / n_groups;
    let kept = (size / 2).max(layer.min_kept().div_ceil(n_groups));
    let is_kept = |expert: &usize| expert % size < kept;
    let mut groups: Vec<Group> = (0..layer.n_experts).filter(is_kept).map(Group::single).collect();
    let mut removed: Vec<usize> = (0..layer.n_experts).filter(|e| !is_kept(e)).collect();
    if router != RouterRule::DropRows {
        let expert = removed.remove(0);
        groups[0].share = 0.75;
        groups[0].absorbed.push(AbsorbedExpert { expert, share: 0.25, alignment: None });
    }
    LayerPlan { n_experts: layer.n_experts, groups, removed }
}

/// The changes as LoRA adapters of the proxy's down projections; `None` if the model has no such sites.
pub(super) fn adapters(proxy: &Model, layers: &[LayerRefit]) -> Option<Adapters> {
    let sites = proxy.linear_sites().iter().filter_map(|site| Some((site, site.role.expert()?)));
    let mut down = sites.filter(|(_, (_, part))| *part == ExpertPart::Down).peekable();
    down.peek()?;
    let update = |(site, (expert, _)): (&litemoe_core::LinearSite, (litemoe_core::ExpertId, _))| {
        let found = layers.iter().find(|found| found.layer == expert.layer)?;
        let (a, b) = match &found.solution.change {
            DownChange::Full(down) => {
                let change = down[expert.expert].clone();
                (Tensor::eye(site.d_in, &change.device()), change)
            }
            DownChange::LowRank { a, b } => (a[expert.expert].clone(), b.clone()),
        };
        Some((site.site.clone(), Lora { a, b, scale: 1.0 }))
    };
    Some(down.filter_map(update).collect())
}
