use litemoe_core::{Adapters, ExpertPart, ExpertStack, LayerId, LinearRole, LinearSite, Site};
use litemoe_kernels::ExpertAdapters;

use crate::config::MoeConfig;
use crate::families::family::{Family, Names};

/// Module paths of a layer's experts, for adapters: those of the family's released checkpoints, whatever this one's
/// layout. If released checkpoints have only fused expert tensors: the fused module's path, the expert's number and the
/// name of the separate projection.
#[derive(Debug)]
pub(crate) struct ExpertSites {
    layer: LayerId,
    /// Common prefix of the paths.
    prefix: String,
    /// Gate, up and down projections of each expert; an ungated one has no gate.
    experts: Vec<[Option<Site>; 3]>,
    stack: Option<ExpertStack>,
    d_model: usize,
    d_expert: usize,
}

impl ExpertSites {
    /// Paths of one layer.
    pub(crate) fn new(
        family: &Family,
        layer: LayerId,
        n_experts: usize,
        moe: &MoeConfig,
        d_model: usize,
    ) -> Self {
        let names: &Names = family.released_names();
        let prefix = names.path(layer, names.experts);
        let [gate, up, down] = names.parts;
        let parts = [moe.network.gated.then_some(gate), Some(up), Some(down)];
        let site = |expert: usize, part: &str| Site::new(format!("{prefix}{expert}.{part}"));
        let sites = |expert| parts.map(|part| part.map(|part| site(expert, part)));
        let experts = (0..n_experts).map(sites).collect();
        let stack = moe.network.gated.then(|| stack(family, layer));
        Self { layer, experts, stack, prefix, d_model, d_expert: moe.d_expert }
    }

    /// Whether some expert of the layer has an adapter.
    pub(crate) fn are_reached(&self, adapters: &Adapters) -> bool {
        adapters.reach(&self.prefix)
    }

    /// LoRA adapters of an expert's projections.
    pub(crate) fn adapters(&self, adapters: &Adapters, expert: usize) -> ExpertAdapters {
        let find = |site: &Option<Site>| adapters.at(site.as_ref()?.as_str()).cloned();
        let [gate, up, down] = &self.experts[expert];
        ExpertAdapters { gate: find(gate), up: find(up), down: find(down) }
    }

    /// All paths with their widths.
    pub(crate) fn linear_sites(&self) -> impl Iterator<Item = LinearSite> {
        let expert = move |(index, sites): (usize, &[Option<Site>; 3])| {
            let parts = [ExpertPart::Gate, ExpertPart::Up, ExpertPart::Down];
            let sites = parts.into_iter().zip(sites.clone());
            sites.filter_map(move |(part, site)| Some(self.linear_site(index, part, site?)))
        };
        self.experts.iter().enumerate().flat_map(expert)
    }

    fn linear_site(&self, expert: usize, part: ExpertPart, site: Site) -> LinearSite {
        let (d_in, d_out) = match part {
            ExpertPart::Gate | ExpertPart::Up => (self.d_model, self.d_expert),
            ExpertPart::Down => (self.d_expert, self.d_model),
        };
        let role = LinearRole::Expert { expert: self.layer.expert(expert), part };
        LinearSite { site, role, d_in, d_out, stack: self.stack.clone(), parameter: None }
    }
}

/// Fused expert tensors of a layer, as transformers 5 holds them.
fn stack(family: &Family, layer: LayerId) -> ExpertStack {
    let (released, held) = (family.released_names(), family.held_names());
    let [gate_up, _] = held.stacks;
    let (module, _) = gate_up.rsplit_once('.').expect("a parameter of a module");
    ExpertStack {
        module: Site::new(held.path(layer, module)),
        order: held.stack_order,
        only: released.stacked || released.stacked_updates,
    }
}
