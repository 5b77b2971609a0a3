use crate::config::{AttentionConfig, FeedForwardConfig, ModelConfig, QkNorm};
use crate::family::Names;
use crate::weight_files::StoredTensors;

pub(crate) const EMBEDDING: &str = "model.embed_tokens";
pub(crate) const FINAL_NORM: &str = "model.norm";
pub(crate) const HEAD: &str = "lm_head";

/// A tensor that a checkpoint must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
}

fn expect(site: impl AsRef<str>, shape: &[usize]) -> Expected {
    Expected { name: format!("{}.weight", site.as_ref()), shape: shape.to_vec() }
}

/// The path of a block.
pub(crate) fn block(index: usize) -> String {
    format!("model.layers.{index}")
}

/// Whether a block's experts are stored as two stacks, as transformers 5 holds them in memory.
/// The names decide: shapes are ambiguous when `d_model = 2 * d_expert`.
pub(crate) fn is_fused(tensors: &StoredTensors, block: &str, names: &Names) -> bool {
    tensors.contains_key(&*format!("{block}.{}", names.stacks[0]))
}

/// Every tensor that a model of this configuration has. `n_experts` are the experts really stored in a block.
pub(crate) fn expected(
    config: &ModelConfig,
    names: &Names,
    n_experts: impl Fn(usize) -> usize,
    stored: &StoredTensors,
) -> Vec<Expected> {
    let d_model = config.d_model;
    let mut all = vec![expect(EMBEDDING, &[config.vocab, d_model]), expect(FINAL_NORM, &[d_model])];
    // A tied checkpoint that stores a head all the same means that head, as in transformers.
    if !config.tied || stored.contains_key(&*format!("{HEAD}.weight")) {
        all.push(expect(HEAD, &[config.vocab, d_model]));
    }
    for (index, feed_forward) in config.feed_forward.iter().enumerate() {
        let block = block(index);
        all.push(expect(format!("{block}.input_layernorm"), &[d_model]));
        all.push(expect(format!("{block}.post_attention_layernorm"), &[d_model]));
        attention(&config.attention, &format!("{block}.self_attn"), d_model, &mut all);
        match *feed_forward {
            FeedForwardConfig::Dense { d_hidden } => {
                let path = format!("{block}.{}", names.dense);
                network(&path, names.dense_parts, [d_model, d_hidden], &mut all);
            }
            FeedForwardConfig::Moe { n_experts: rows, d_expert, shared, .. } => {
                all.push(expect(format!("{block}.{}", names.router), &[rows, d_model]));
                if let Some(d_hidden) = shared {
                    let path = format!("{block}.{}", names.shared);
                    network(&path, names.dense_parts, [d_model, d_hidden], &mut all);
                    all.push(expect(format!("{path}_gate"), &[1, d_model]));
                }
                let experts = format!("{block}.{}", names.experts);
                let sizes = [n_experts(index), d_model, d_expert];
                if is_fused(stored, &block, names) {
                    stacks(&block, names, sizes, &mut all);
                } else {
                    let [n_experts, widths @ ..] = sizes;
                    (0..n_experts).for_each(|e| {
                        network(&format!("{experts}.{e}"), names.parts, widths, &mut all);
                    });
                }
            }
        }
    }
    all
}

fn attention(config: &AttentionConfig, path: &str, d_model: usize, all: &mut Vec<Expected>) {
    let (queries, keys) = (config.n_heads * config.d_head, config.n_kv_heads * config.d_head);
    let projections =
        [("q_proj", queries, d_model), ("k_proj", keys, d_model), ("v_proj", keys, d_model)];
    for (leaf, d_out, d_in) in projections.into_iter().chain([("o_proj", d_model, queries)]) {
        all.push(expect(format!("{path}.{leaf}"), &[d_out, d_in]));
        if config.bias && !(leaf == "o_proj" && config.bare_output) {
            all.push(Expected { name: format!("{path}.{leaf}.bias"), shape: vec![d_out] });
        }
    }
    let [q_width, k_width] = match config.qk_norm {
        QkNorm::None => return,
        QkNorm::PerHead => [config.d_head; 2],
        QkNorm::Projection => [queries, keys],
    };
    all.push(expect(format!("{path}.q_norm"), &[q_width]));
    all.push(expect(format!("{path}.k_norm"), &[k_width]));
}

/// Gate, up and down of a dense network or of one expert.
fn network(path: &str, parts: [&str; 3], widths: [usize; 2], all: &mut Vec<Expected>) {
    let [d_model, d_hidden] = widths;
    let [gate, up, down] = parts;
    all.push(expect(format!("{path}.{gate}"), &[d_hidden, d_model]));
    all.push(expect(format!("{path}.{up}"), &[d_hidden, d_model]));
    all.push(expect(format!("{path}.{down}"), &[d_model, d_hidden]));
}

fn stacks(block: &str, names: &Names, sizes: [usize; 3], all: &mut Vec<Expected>) {
    let [n_experts, d_model, d_expert] = sizes;
    let shapes = [[n_experts, 2 * d_expert, d_model], [n_experts, d_model, d_expert]];
    let stack = |(leaf, shape): (&str, [usize; 3])| Expected {
        name: format!("{block}.{leaf}"),
        shape: shape.to_vec(),
    };
    all.extend(names.stacks.into_iter().zip(shapes).map(stack));
}
