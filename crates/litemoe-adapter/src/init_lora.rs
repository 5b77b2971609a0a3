use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{Adapters, LinearRole, LinearSite, Lora, Site};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::AdapterError;

/// Target `attention`: every matrix of attention.
pub const ATTENTION: &str = "attention";

/// Target `experts`: every matrix of every routed expert.
pub const EXPERTS: &str = "experts";

/// LoRA options: target modules, ranks and scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraOptions {
    /// Rank r, above 0.
    pub rank: usize,
    /// Rank r of LoRAs on routed experts, above 0.
    pub expert_rank: usize,
    /// α, above 0. Every LoRA, those on experts too, is scaled by α/r with r = `rank`.
    pub alpha: f64,
    /// PEFT `target_modules`: path suffixes of whole components (`q_proj`, `self_attn.q_proj`, a router's `mlp.gate`),
    /// or [`ATTENTION`] or [`EXPERTS`]. Empty means both of these.
    pub targets: Vec<String>,
    /// Share of each layer's experts, the highest-scoring ones, that were adapted; `None`: all.
    pub hot_experts: Option<f64>,
    /// rsLoRA: scale by α/√r instead ("A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", arXiv
    /// 2312.03732).
    pub rslora: bool,
}

impl Default for LoraOptions {
    /// Rank 8 on attention, 4 on experts, and α 16.
    fn default() -> Self {
        Self {
            rank: 8,
            expert_rank: 4,
            alpha: 16.0,
            targets: Vec::new(),
            hot_experts: None,
            rslora: false,
        }
    }
}

impl LoraOptions {
    /// Scale of every LoRA: α/r, or α/√r with rsLoRA.
    pub fn scale(&self) -> f32 {
        scale(self.alpha, self.rank, self.rslora)
    }

    /// Checks that every option is in range.
    ///
    /// # Errors
    /// [`AdapterError::Option`]
    pub fn check(&self) -> Result<(), AdapterError> {
        for (option, rank) in [("rank", self.rank), ("expert_rank", self.expert_rank)] {
            if rank == 0 {
                let given = rank.to_string();
                return Err(AdapterError::Option { option, given, expected: "at least 1" });
            }
        }
        if !(self.alpha > 0.0 && self.scale().is_finite()) {
            return Err(AdapterError::Option {
                option: "alpha",
                given: format!("{:?}", self.alpha),
                expected: "a number above 0 whose scale, alpha/rank, is finite in f32",
            });
        }
        Ok(())
    }

    /// Rank on a weight.
    pub fn rank_at(&self, site: &LinearSite) -> usize {
        if site.role.is_expert() { self.expert_rank } else { self.rank }
    }

    /// Checks that each rank is of use at some of the targets: above a dimension of the matrix it adds nothing.
    ///
    /// # Errors
    /// [`AdapterError::Rank`]
    pub fn check_ranks(&self, targets: &[&LinearSite]) -> Result<(), AdapterError> {
        for (option, is_expert) in [("rank", false), ("expert_rank", true)] {
            let of_kind = targets.iter().filter(|site| site.role.is_expert() == is_expert);
            let largest = of_kind.max_by_key(|site| site.d_in.min(site.d_out));
            let Some(site) = largest else { continue };
            let (rank, max) = (self.rank_at(site), site.d_in.min(site.d_out));
            if rank > max {
                return Err(AdapterError::Rank { option, rank, max });
            }
        }
        Ok(())
    }
}

/// LoRA scale: α/r, or α/√r with rsLoRA.
pub(crate) fn scale(alpha: f64, rank: usize, rslora: bool) -> f32 {
    (alpha / divisor(rank, rslora)) as f32
}

/// Divisor of α: r, or √r with rsLoRA.
pub(crate) fn divisor(rank: usize, rslora: bool) -> f64 {
    if rslora { (rank as f64).sqrt() } else { rank as f64 }
}

/// Whether a path equals the target or ends with it after a dot, as in PEFT's `target_modules` lists.
pub(crate) fn ends_with(path: &str, target: &str) -> bool {
    path.strip_suffix(target).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

/// Whether a target matches a weight.
fn is_meant(weight: &LinearSite, target: &str) -> bool {
    match target {
        EXPERTS => weight.role.is_expert(),
        ATTENTION => weight.role == LinearRole::Attention,
        _ => ends_with(weight.site.as_str(), target),
    }
}

/// The weights that the options select, in the order of `sites`.
///
/// # Errors
/// As [`init_lora`].
pub fn target_sites<'a>(
    sites: &'a [LinearSite],
    options: &LoraOptions,
) -> Result<Vec<&'a LinearSite>, AdapterError> {
    options.check()?;
    if let Some(target) = options.targets.iter().find(|target| !matches_any(target, sites)) {
        return Err(AdapterError::UnknownTarget { target: target.clone(), known: leaves(sites) });
    }
    let wanted = |site: &&LinearSite| match options.targets.is_empty() {
        true => site.role == LinearRole::Attention || site.role.is_expert(),
        false => options.targets.iter().any(|target| is_meant(site, target)),
    };
    let targets: Vec<_> = sites.iter().filter(wanted).collect();
    if targets.is_empty() { Err(AdapterError::NoTargets) } else { Ok(targets) }
}

/// LoRA initialisation: A is uniform within ±1/√d_in (PEFT's Kaiming initialisation with a = √5), B is zero, so the new
/// adapter is the identity.
///
/// Each site has its own random generator, seeded with `seed` and the site's path, so the values do not depend on the
/// platform or on the other sites.
///
/// # Errors
/// A target that matches no site, a model without attention and experts if `targets` is empty, or a rank or α out of
/// range.
pub fn init_lora(
    sites: &[LinearSite],
    options: &LoraOptions,
    seed: u64,
    device: &Device,
) -> Result<Adapters, AdapterError> {
    let lora = |site: &LinearSite| (site.site.clone(), fresh_lora(site, options, seed, device));
    Ok(target_sites(sites, options)?.into_iter().map(lora).collect())
}

fn fresh_lora(site: &LinearSite, options: &LoraOptions, seed: u64, device: &Device) -> Lora {
    let rank = options.rank_at(site);
    let values = uniform(&site.site, seed, site.d_in * rank, 1.0 / (site.d_in as f64).sqrt());
    Lora {
        a: Tensor::from_data(TensorData::new(values, [site.d_in, rank]), device),
        b: Tensor::zeros([rank, site.d_out], device),
        scale: options.scale(),
    }
}

/// Uniform values in [-bound, bound), from 24 random bits each.
fn uniform(site: &Site, seed: u64, len: usize, bound: f64) -> Vec<f32> {
    let mut digest = Sha256::new();
    digest.update(seed.to_le_bytes());
    digest.update(site.as_str());
    let mut rng = ChaCha8Rng::from_seed(digest.finalize().into());
    let unit = f64::from(1u32 << 23).recip();
    (0..len).map(|_| ((f64::from(rng.next_u32() >> 8) * unit - 1.0) * bound) as f32).collect()
}

fn matches_any(target: &str, sites: &[LinearSite]) -> bool {
    sites.iter().any(|site| is_meant(site, target))
}

/// Names of all targets: the last components of the sites' paths, each once, in model order, then [`ATTENTION`] and
/// [`EXPERTS`] if the model has any.
pub(crate) fn leaves(sites: &[LinearSite]) -> String {
    let mut leaves: Vec<&str> = Vec::new();
    for site in sites {
        if !leaves.contains(&site.site.leaf()) {
            leaves.push(site.site.leaf());
        }
    }
    let has = |role: fn(&LinearSite) -> bool| sites.iter().any(role);
    leaves.extend(has(|site| site.role == LinearRole::Attention).then_some(ATTENTION));
    leaves.extend(has(|site| site.role.is_expert()).then_some(EXPERTS));
    leaves.join(", ")
}
