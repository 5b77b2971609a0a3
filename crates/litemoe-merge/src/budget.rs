use litemoe_core::{Budget, MoeLayer};

use crate::MergeError;

/// Number of kept experts per layer under a uniform byte budget: the largest count whose expert bytes fit. With expert
/// groups (group-limited routing) it is a multiple of the number of groups. A layer with fewer experts keeps all of
/// them.
///
/// # Errors
/// [`MergeError::BudgetTooSmall`] if the count is below what a layer's router needs.
pub fn kept_per_layer(budget: Budget, layers: &[MoeLayer]) -> Result<usize, MergeError> {
    let most = layers.iter().map(|layer| layer.n_experts).max().ok_or(MergeError::NoExperts)?;
    let allowed = budget.bytes_of(expert_bytes(layers, most));
    let is_even = |kept: usize| {
        let groups = layers.iter().filter_map(|layer| layer.groups);
        groups.into_iter().all(|groups| kept.is_multiple_of(groups.n_groups))
    };
    let fits = |&kept: &usize| is_even(kept) && expert_bytes(layers, kept) <= allowed;
    let kept = (0..=most).rev().find(fits).unwrap_or(0);
    match layers.iter().find(|layer| kept < layer.min_kept()) {
        Some(layer) => Err(too_small(budget, kept, layer, layers)),
        None => Ok(kept),
    }
}

/// Expert bytes of a model with `kept` experts in every layer.
pub(crate) fn expert_bytes(layers: &[MoeLayer], kept: usize) -> u64 {
    layers.iter().map(|layer| kept.min(layer.n_experts) as u64 * layer.expert_bytes).sum()
}

fn too_small(budget: Budget, kept: usize, layer: &MoeLayer, layers: &[MoeLayer]) -> MergeError {
    let least = layers.iter().map(MoeLayer::min_kept).max().unwrap_or(0);
    let most = layers.iter().map(|layer| layer.n_experts).max().unwrap_or(0);
    MergeError::BudgetTooSmall {
        budget,
        kept,
        layer: layer.id,
        least: layer.min_kept(),
        needed: expert_bytes(layers, least),
        total: expert_bytes(layers, most),
    }
}
