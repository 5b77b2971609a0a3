use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor};
use litemoe_core::{Adapters, LayerId, LinearRole, LinearSite, Lora};

use super::padding::{common_scale, padded};

/// Brings all LoRAs to one rank and one scale, and adds zero LoRAs where a weight is fused with one that has a LoRA.
pub(super) fn uniform(adapters: &Adapters, sites: &[LinearSite]) -> Adapters {
    let loras = || adapters.loras().map(|(_, lora)| lora);
    let scale = common_scale(loras().map(|lora| lora.scale));
    let Some(rank) = loras().map(Lora::rank).max() else { return Adapters::default() };
    let even = |(site, lora)| (litemoe_core::Site::clone(site), padded(lora, rank, scale));
    let mut even: Adapters = adapters.loras().map(even).collect();
    let device = loras().next().map_or_else(Device::default, |lora| lora.a.device());
    let has_lora = |site: &&LinearSite| adapters.at(site.site.as_str()).is_some();
    let fused: BTreeSet<Fused<'_>> =
        sites.iter().filter(has_lora).filter_map(Fused::with).collect();
    for site in sites.iter().filter(|site| !has_lora(site)) {
        if Fused::with(site).is_some_and(|with| fused.contains(&with)) {
            even.insert(site.site.clone(), blank(site, rank, scale, &device));
        }
    }
    even
}

fn blank(site: &LinearSite, rank: usize, scale: f32, device: &Device) -> Lora {
    let zeros = |shape: [usize; 2]| Tensor::zeros(shape, device);
    Lora { a: zeros([site.d_in, rank]), b: zeros([rank, site.d_out]), scale }
}

/// Weights that servers compute as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fused<'a> {
    /// Queries, keys and values of the attention layer of this path.
    Attention(&'a str),
    /// Gate and up of the dense network of this path.
    Dense(&'a str),
    /// All experts of a layer.
    Experts(LayerId),
}

impl<'a> Fused<'a> {
    /// The weights that a weight is fused with; `None` if it is alone.
    fn with(site: &'a LinearSite) -> Option<Self> {
        let (path, leaf) = site.site.as_str().rsplit_once('.')?;
        match site.role {
            LinearRole::Attention if ["q_proj", "k_proj", "v_proj"].contains(&leaf) => {
                Some(Self::Attention(path))
            }
            LinearRole::Dense if ["gate_proj", "up_proj"].contains(&leaf) => {
                Some(Self::Dense(path))
            }
            LinearRole::Expert { expert, .. } => Some(Self::Experts(expert.layer)),
            LinearRole::Attention | LinearRole::Dense | LinearRole::Router { .. } => None,
        }
    }
}
