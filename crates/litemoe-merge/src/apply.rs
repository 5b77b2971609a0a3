use litemoe_core::{
    AbsorbedExpert, ExpertId, ExpertSource, ExpertWeights, Group, LayerId, LayerPlan,
};

use crate::MergeError;
use crate::merge::{blend, check_pair, reordered};

/// Weighted merging of a layer: the weights of its kept experts, in the proxy's order. `None` for an expert that
/// absorbs none: its tensors are the foundation's and are not read.
///
/// The plan must have been [checked](litemoe_core::Plan::check) against the source.
///
/// # Errors
/// An expert that cannot be read, or whose shapes differ from its centroid's.
pub fn merged_experts(
    layer: LayerId,
    plan: &LayerPlan,
    source: &(impl ExpertSource + ?Sized),
) -> Result<Vec<Option<ExpertWeights>>, MergeError> {
    let merged = |group: &Group| {
        (!group.absorbed.is_empty()).then(|| merged_expert(layer, group, source)).transpose()
    };
    plan.groups.iter().map(merged).collect()
}

/// Weighted merging of a centroid and its absorbed experts: Σ share · aligned weights (LiteMoE §3.4).
///
/// At most three experts are in memory at once.
///
/// # Errors
/// An expert that cannot be read, or whose shapes differ from its centroid's.
pub fn merged_expert(
    layer: LayerId,
    group: &Group,
    source: &(impl ExpertSource + ?Sized),
) -> Result<ExpertWeights, MergeError> {
    let centroid = read(layer.expert(group.centroid), source)?;
    group.absorbed.iter().try_fold(centroid.clone(), |sum, absorbed| {
        let weights = aligned_member(layer.expert(absorbed.expert), &centroid, absorbed, source)?;
        Ok(blend(sum, &centroid, weights, absorbed.share))
    })
}

/// Reads one expert.
pub(crate) fn read(
    id: ExpertId,
    source: &(impl ExpertSource + ?Sized),
) -> Result<ExpertWeights, MergeError> {
    source.expert(id).map_err(|source| MergeError::Read { expert: id, source: Box::new(source) })
}

fn aligned_member(
    id: ExpertId,
    centroid: &ExpertWeights,
    absorbed: &AbsorbedExpert,
    source: &(impl ExpertSource + ?Sized),
) -> Result<ExpertWeights, MergeError> {
    let weights = read(id, source)?;
    check_pair(id, centroid, &weights)?;
    match &absorbed.alignment {
        None => Ok(weights),
        Some(order) if is_permutation(order, weights.up.dims()[0]) => Ok(reordered(weights, order)),
        Some(_) => Err(MergeError::NotAPermutation { expert: id }),
    }
}

fn is_permutation(order: &[u32], len: usize) -> bool {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().map(|neuron| neuron as usize).eq(0..len)
}
