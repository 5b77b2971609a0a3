use std::collections::BTreeMap;

use anyhow::{Context, bail};
use litemoe_core::{Adapters, LinearRole, LinearSite, Lora, MoeModel, Site};
use litemoe_model::{AttentionConfig, Outline};

use super::gguf_names::{Architecture, tensor_name};
use crate::gguf::GgufTensor;

/// LoRAs of one tensor of llama.cpp: of a weight, or of all experts of a layer.
struct Target<'a> {
    /// Number of experts, or `None` for a single weight.
    n_experts: Option<usize>,
    d_in: usize,
    d_out: usize,
    /// The LoRAs, each with its expert.
    loras: Vec<(usize, &'a Lora)>,
    /// Heads whose rows are reordered.
    permuted_heads: Option<usize>,
}

/// An adapter as tensors for llama.cpp, and its α.
///
/// The scale there is α / rank, with α of the LoRA of the largest scale: where that is another LoRA's, the ratio is
/// multiplied into B. The experts of a layer are stacked at the largest of their ranks, and experts without a LoRA are zero.
///
/// # Errors
/// A LoRA on a weight that llama.cpp stores otherwise or applies no LoRA to, and values beyond f32.
pub(super) fn tensors(
    adapters: &Adapters,
    outline: &Outline,
    attention: &AttentionConfig,
    architecture: Architecture,
) -> anyhow::Result<(f32, Vec<GgufTensor>)> {
    let loras = adapters.loras().map(|(_, lora)| lora).filter(|lora| lora.scale != 0.0);
    // The first of several.
    let largest = loras.reduce(|x, y| if y.scale.abs() > x.scale.abs() { y } else { x });
    let largest = largest.context("every LoRA has the scale 0")?;
    let alpha = largest.scale * largest.rank() as f32;
    let targets = targets(adapters, outline, attention, architecture)?;
    let tensors = targets.iter().map(|(name, target)| target.tensors(name, alpha));
    let tensors: Vec<_> = tensors.collect::<anyhow::Result<_>>()?;
    Ok((alpha, tensors.into_iter().flatten().collect()))
}

/// LoRAs by the names of llama.cpp's tensors.
fn targets<'a>(
    adapters: &'a Adapters,
    outline: &Outline,
    attention: &AttentionConfig,
    architecture: Architecture,
) -> anyhow::Result<BTreeMap<String, Target<'a>>> {
    let sites = outline.linear_sites().iter().map(|linear| (&linear.site, linear));
    let sites: BTreeMap<&Site, &LinearSite> = sites.collect();
    let mut targets: BTreeMap<String, Target<'a>> = BTreeMap::new();
    for (site, lora) in adapters.loras() {
        let linear =
            sites.get(site).with_context(|| format!("the model has no weight at {site}"))?;
        if linear.role == LinearRole::Attention && architecture.unapplied.contains(&site.leaf()) {
            bail!(
                "the update at {site} cannot be exported: llama.cpp does not apply LoRAs there in {}",
                architecture.name
            );
        }
        let Some(name) = tensor_name(linear) else {
            bail!("the update at {site} cannot be exported: llama.cpp has no such tensor");
        };
        let expert = linear.role.expert().map(|(expert, _)| expert);
        let n_experts = expert.and_then(|expert| {
            let layer = outline.moe_layers().iter().find(|layer| layer.id == expert.layer)?;
            Some(layer.n_experts)
        });
        let is_attention = architecture.permuted && linear.role == LinearRole::Attention;
        let target = targets.entry(name).or_insert_with(|| Target {
            n_experts,
            d_in: linear.d_in,
            d_out: linear.d_out,
            loras: Vec::new(),
            permuted_heads: match site.leaf() {
                "q_proj" if is_attention => Some(attention.n_heads),
                "k_proj" if is_attention => Some(attention.n_kv_heads),
                _ => None,
            },
        });
        target.loras.push((expert.map_or(0, |expert| expert.expert), lora));
    }
    Ok(targets)
}

impl Target<'_> {
    fn tensors(&self, name: &str, alpha: f32) -> anyhow::Result<[GgufTensor; 2]> {
        let (n, d_in, d_out) = (self.n_experts.unwrap_or(1), self.d_in, self.d_out);
        let rank = self.loras.iter().map(|(_, lora)| lora.rank()).max().unwrap_or(1);
        let (mut a, mut b) = (vec![0.0; n * rank * d_in], vec![0.0; n * d_out * rank]);
        for &(expert, lora) in &self.loras {
            let values =
                |matrix: &burn::tensor::Tensor<2>| matrix.to_data().iter::<f32>().collect();
            let (own, from_a, from_b): (_, Vec<f32>, Vec<f32>) =
                (lora.rank(), values(&lora.a), values(&lora.b));
            let factor = f64::from(lora.scale) * rank as f64 / f64::from(alpha);
            for slot in 0..own {
                for input in 0..d_in {
                    a[(expert * rank + slot) * d_in + input] = from_a[input * own + slot];
                }
                for output in 0..d_out {
                    let row = expert * d_out + self.row(output);
                    let value = f64::from(from_b[slot * d_out + output]);
                    b[row * rank + slot] = (value * factor) as f32;
                }
            }
        }
        if !alpha.is_finite() || b.iter().any(|value| !value.is_finite()) {
            bail!(
                "{name}.lora_b: α {alpha} and B with the scales multiplied in must be finite in f32"
            );
        }
        let shape = |shape: [usize; 2]| self.n_experts.into_iter().chain(shape).collect();
        let tensor = |which: &str, shape, values| GgufTensor {
            name: format!("{name}.{which}"),
            shape,
            values,
        };
        Ok([tensor("lora_a", shape([rank, d_in]), a), tensor("lora_b", shape([d_out, rank]), b)])
    }

    /// Row of an output: in a permuted head, element `i` of half `h` becomes element `h` of pair `i`.
    fn row(&self, output: usize) -> usize {
        let Some(n_heads) = self.permuted_heads else { return output };
        let d_head = self.d_out / n_heads;
        let (head, at) = (output / d_head, output % d_head);
        let (half, element) = (at / (d_head / 2), at % (d_head / 2));
        head * d_head + 2 * element + half
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn values_beyond_f32_are_refused_by_name() {
        let matrix = |value: f32| Tensor::full([1, 1], value, &Device::flex());
        let lora = Lora { a: matrix(1.0), b: matrix(3e38), scale: 2.0 };
        let target = Target {
            n_experts: None,
            d_in: 1,
            d_out: 1,
            loras: vec![(0, &lora)],
            permuted_heads: None,
        };
        let tensors = |alpha| target.tensors("blk.0.attn_v.weight", alpha);
        assert_eq!(tensors(2.0).expect("finite")[1].values, [3e38]);
        for alpha in [1.0, f32::INFINITY] {
            let error = tensors(alpha).expect_err("not finite").to_string();
            assert!(error.contains("blk.0.attn_v.weight.lora_b"), "{error}");
        }
    }
}
