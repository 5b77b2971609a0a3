use anyhow::bail;
use litemoe_adapter::EXPERTS;
use litemoe_core::{Budget, MoeLayer, Stack};
use litemoe_merge::{MergeError, RefitOptions, kept_per_layer, sum_bytes};

use super::args::CustomizeArgs;
use crate::args::auto::Auto;
use crate::args::refit_kind::RefitKind;

/// Kind of the refit under a budget: decides `auto`, and checks that a given kind is possible and that tuning can
/// continue from it.
pub(super) fn kind(
    options: &CustomizeArgs,
    budget: Budget,
    layers: &[MoeLayer],
) -> anyhow::Result<RefitKind> {
    let kept = kept_per_layer(budget, layers)?;
    let sums = |layer: &MoeLayer| sum_bytes(kept.min(layer.n_experts) * layer.d_expert);
    let max = RefitOptions::default().max_sum_bytes;
    let too_large = layers.iter().find(|layer| sums(layer) > max);
    let has_encoder = layers.iter().any(|layer| layer.id.stack == Stack::Encoder);
    let kind = match options.refit {
        Auto::Auto if carries_down(options) && !has_encoder && too_large.is_none() => {
            RefitKind::LowRank
        }
        Auto::Auto | Auto::Given(RefitKind::None) => return Ok(RefitKind::None),
        Auto::Given(kind) => kind,
    };
    if has_encoder {
        return Err(MergeError::Encoder.into());
    }
    if let Some(layer) = too_large {
        return Err(MergeError::SumsTooLarge { layer: layer.id, bytes: sums(layer), max }.into());
    }
    if kind != RefitKind::LowRank {
        return Ok(kind);
    }
    if !carries_down(options) {
        bail!(
            "--refit low-rank is part of the adapter, so the targets must include all experts' down projections: name \
             `experts` or `down_proj` in --targets, leave out --hot-experts, or choose --refit full or none"
        );
    }
    let rank = options.refit_rank;
    for layer in layers {
        let largest = (kept.min(layer.n_experts) * layer.d_expert).min(layer.d_model);
        if rank > largest {
            return Err(MergeError::Rank { layer: layer.id, rank, largest }.into());
        }
    }
    Ok(kind)
}

/// Whether the targets include the down projections of all experts.
fn carries_down(options: &CustomizeArgs) -> bool {
    let tune = &options.tune;
    let carried = |target: &String| target == EXPERTS || target == "down_proj";
    tune.hot_experts.is_none() && (tune.targets.is_empty() || tune.targets.iter().any(carried))
}
