use std::collections::BTreeSet;

use burn::tensor::{Tensor, TensorData};
use litemoe_core::{Adapters, LinearSite, Lora, Site};

use crate::evaluate::floats;

/// Brings all LoRAs of experts to one rank and one scale, because PEFT ignores patterns for per-expert adapters: lower
/// ranks are zero-padded, other scales are multiplied into B.
pub(super) fn evened(adapters: &Adapters, sites: &[LinearSite]) -> Adapters {
    let experts = sites.iter().filter(|site| site.role.is_expert());
    let experts: BTreeSet<&Site> = experts.map(|site| &site.site).collect();
    let of_experts = || adapters.loras().filter(|(site, _)| experts.contains(site));
    let scale = common_scale(of_experts().map(|(_, lora)| lora.scale));
    let rank = of_experts().map(|(_, lora)| lora.rank()).max().unwrap_or_default();
    let even = |(site, lora): (&Site, &Lora)| {
        let lora = if experts.contains(site) { padded(lora, rank, scale) } else { lora.clone() };
        (site.clone(), lora)
    };
    adapters.loras().map(even).collect()
}

/// Scale of LoRAs that can have only one: the one that is farthest from zero, because another's ratio to it is at most 1
/// in magnitude and cannot make B infinite. A LoRA of scale 0 gets zeros for B, unless all have scale 0.
pub(super) fn common_scale(scales: impl Iterator<Item = f32>) -> f32 {
    scales.reduce(|most, scale| if scale.abs() > most.abs() { scale } else { most }).unwrap_or(0.0)
}

/// B of a LoRA of scale `own` for a common scale. The ratio of the scales may be too small for f32, the products not.
pub(super) fn rescaled(mut b: Vec<f32>, own: f32, common: f32) -> Vec<f32> {
    if own != common {
        let ratio = f64::from(own) / f64::from(common);
        b.iter_mut().for_each(|value| *value = (f64::from(*value) * ratio) as f32);
    }
    b
}

/// A LoRA with zero components up to a rank, and B for a common scale.
pub(super) fn padded(lora: &Lora, rank: usize, scale: f32) -> Lora {
    let ([d_in, own], [_, d_out], device) = (lora.a.dims(), lora.b.dims(), lora.a.device());
    let b = match lora.scale == scale {
        true => lora.b.clone(),
        false => {
            let values = rescaled(floats(lora.b.clone()), lora.scale, scale);
            Tensor::from_data(TensorData::new(values, [own, d_out]), &device)
        }
    };
    if own == rank {
        return Lora { b, scale, ..lora.clone() };
    }
    let zeros = |shape: [usize; 2]| Tensor::zeros(shape, &device);
    Lora {
        a: Tensor::cat(vec![lora.a.clone(), zeros([d_in, rank - own])], 1),
        b: Tensor::cat(vec![b, zeros([rank - own, d_out])], 0),
        scale,
    }
}

/// Removes trailing rank components that are zero in both A and B; at least one component remains.
pub(super) fn trimmed(lora: Lora) -> Lora {
    let ([d_in, rank], [_, d_out]) = (lora.a.dims(), lora.b.dims());
    let (a, b) = (floats(lora.a.clone()), floats(lora.b.clone()));
    let is_blank = |component: usize| {
        (0..d_in).all(|row| a[row * rank + component] == 0.0)
            && b[component * d_out..][..d_out].iter().all(|&value| value == 0.0)
    };
    let kept = (1..rank).rev().find(|&component| !is_blank(component)).map_or(1, |last| last + 1);
    if kept == rank {
        return lora;
    }
    Lora { a: lora.a.narrow(1, 0, kept), b: lora.b.narrow(0, 0, kept), ..lora }
}
