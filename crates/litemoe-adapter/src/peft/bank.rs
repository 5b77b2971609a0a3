use std::collections::BTreeMap;

use litemoe_core::{ExpertPart, LayerId, LinearSite, Site};

/// The sites of a layer's gated experts.
#[derive(Debug)]
pub(super) struct Bank<'a> {
    /// Where transformers 5 holds them as two stacks.
    pub(super) path: String,
    /// Gate, up and down of each expert.
    pub(super) experts: Vec<[&'a LinearSite; 3]>,
}

impl<'a> Bank<'a> {
    /// Of every layer whose experts have gates: those without are no stacks in transformers 5.
    pub(super) fn all(sites: &'a [LinearSite]) -> Vec<Self> {
        let mut parts: BTreeMap<LayerId, BTreeMap<(usize, ExpertPart), &LinearSite>> =
            BTreeMap::new();
        for site in sites {
            if let Some((expert, part)) = site.role.expert() {
                parts.entry(expert.layer).or_default().insert((expert.expert, part), site);
            }
        }
        parts.into_values().filter_map(Self::of).collect()
    }

    /// Of one layer's matrices in order of expert and part.
    fn of(parts: BTreeMap<(usize, ExpertPart), &'a LinearSite>) -> Option<Self> {
        let sites: Vec<&LinearSite> = parts.into_values().collect();
        let has_gate = matches!(sites.first()?.role.expert(), Some((_, ExpertPart::Gate)));
        let (experts, rest) = sites.as_chunks();
        let path = fused_path(&sites.first()?.site)?;
        (has_gate && rest.is_empty()).then(|| Self { path, experts: experts.to_vec() })
    }
}

/// The path of the stacks that an expert is in: in memory, transformers 5 calls every family's feed-forward part `mlp`.
fn fused_path(expert: &Site) -> Option<String> {
    let (expert, _part) = expert.as_str().rsplit_once('.')?;
    let (experts, _index) = expert.rsplit_once('.')?;
    Some(experts.replace(".block_sparse_moe.", ".mlp."))
}
