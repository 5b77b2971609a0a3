use std::collections::BTreeSet;

use burn::tensor::Tensor;
use litemoe_core::{Adapters, LinearSite, Lora, Site};

use crate::evaluate::floats;

/// Brings all LoRAs of experts to one rank and one scale, because PEFT ignores patterns for per-expert adapters: lower
/// ranks are zero-padded, other scales are multiplied into B.
pub(super) fn evened(adapters: &Adapters, sites: &[LinearSite]) -> Adapters {
    let experts = sites.iter().filter(|site| site.role.is_expert());
    let experts: BTreeSet<&Site> = experts.map(|site| &site.site).collect();
    let of_experts = || adapters.loras().filter(|(site, _)| experts.contains(site));
    let Some((_, first)) = of_experts().next() else { return adapters.clone() };
    let rank = of_experts().map(|(_, lora)| lora.rank()).max().unwrap_or_default();
    let even = |(site, lora): (&Site, &Lora)| {
        let lora =
            if experts.contains(site) { padded(lora, rank, first.scale) } else { lora.clone() };
        (site.clone(), lora)
    };
    adapters.loras().map(even).collect()
}

fn padded(lora: &Lora, rank: usize, scale: f32) -> Lora {
    let ([d_in, own], [_, d_out]) = (lora.a.dims(), lora.b.dims());
    let b = match lora.scale == scale || scale == 0.0 {
        true => lora.b.clone(),
        false => lora.b.clone().mul_scalar(lora.scale / scale),
    };
    if own == rank {
        return Lora { b, scale, ..lora.clone() };
    }
    let device = lora.a.device();
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
