//! Switch Transformers (Scaling to Trillion Parameter Models with Simple and Efficient Sparsity, arXiv 2101.03961):
//! T5-like encoder–decoder, top-1 routing to ungated experts, some blocks dense.

use litemoe_kernels::HiddenAct;

use crate::ModelError;
use crate::config::read::decoder::{self, MAX_BLOCKS, MAX_EXPERTS};
use crate::config::read::eos;
use crate::config::read::file::ConfigFile;
use crate::config::{
    AttentionConfig, DenseConfig, FeedForwardConfig, ModelConfig, MoeConfig, Multipliers,
    NetworkConfig, NormKind, QkNorm, RelativeConfig,
};
use crate::families::family::{Family, Names};

pub(crate) const FAMILY: Family = Family {
    model_type: MODEL_TYPE,
    read,
    harmless: &[
        "add_router_probs",
        "decoder_sparse_step",
        "dropout_rate",
        "encoder_sparse_step",
        "feed_forward_proj",
        "initializer_factor",
        "layerdrop",
        "output_past",
        "router_ignore_padding_tokens",
        "router_jitter_noise",
        "router_z_loss_coef",
    ],
    expert_counts: &["num_experts"],
    names: &[Names {
        embedding: "shared",
        own_embeddings: ["encoder.embed_tokens", "decoder.embed_tokens"],
        blocks: ["encoder.block.", "decoder.block."],
        final_norms: ["encoder.final_layer_norm", "decoder.final_layer_norm"],
        norms: ["layer.0.layer_norm", "layer.#.layer_norm"],
        attention: "layer.0.SelfAttention",
        projections: ["q", "k", "v", "o"],
        cross: ["layer.1.EncDecAttention", "layer.1.layer_norm"],
        dense: "layer.#.mlp",
        router: "layer.#.mlp.router.classifier",
        linear_router: true,
        experts: "layer.#.mlp.experts.expert_",
        parts: ["", "wi", "wo"],
        stacks: ["layer.#.mlp.experts.wi", "layer.#.mlp.experts.wo"],
        dense_parts: ["", "wi", "wo"],
        ..Names::MLP
    }],
};

const MODEL_TYPE: &str = "switch_transformers";

/// Maximum row length in training; the relative position bias has no limit.
const MAX_TOKENS: usize = 512;

const NEUTRAL: &[(&str, &str)] = &[
    ("is_encoder_decoder", "true"),
    ("is_decoder", "false"),
    ("tie_encoder_decoder", "false"),
    ("pruned_heads", "{}"),
    ("is_gated_act", "false"),
    ("num_selected_experts", "1"),
    ("batch_prioritized_routing", "false"),
    ("router_dtype", "\"float32\""),
    ("router_type", "\"tokens_masked\""),
];

fn read(config: &mut ConfigFile) -> Result<ModelConfig, ModelError> {
    decoder::neutral(config, NEUTRAL)?;
    let d_model = config.size("d_model")?;
    let tied = config.flag("tie_word_embeddings", true)?;
    let n_blocks = config.count("num_layers", MAX_BLOCKS)?;
    let n_decoder = match config.optional_size("num_decoder_layers")? {
        Some(_) => config.count("num_decoder_layers", MAX_BLOCKS)?,
        None => n_blocks,
    };
    let (dense, moe) = read_networks(config)?;
    let n_sparse = config.optional("num_sparse_encoder_layers", "a whole number")?.unwrap_or(3);
    let encoder = blocks(n_blocks, n_sparse, dense, moe);
    let n_sparse = config.optional("num_sparse_decoder_layers", "a whole number")?.unwrap_or(3);
    let feed_forward = blocks(n_decoder, n_sparse, dense, moe);
    let start: Option<u32> = config.optional("decoder_start_token_id", "a token id")?;
    let pad: Option<u32> = config.optional("pad_token_id", "a token id")?;
    let (vocab, start_id) = (config.size("vocab_size")?, start.or(pad).unwrap_or(0));
    if start_id as usize >= vocab {
        return Err(config.wrong("decoder_start_token_id", &format!("below {vocab}")));
    }
    Ok(ModelConfig {
        family: MODEL_TYPE,
        vocab,
        d_model,
        norm_eps: config.optional_positive("layer_norm_epsilon")?.unwrap_or(1e-6),
        norm: NormKind::Rms,
        tied,
        head_bias: false,
        multipliers: Multipliers {
            logits: if tied { (d_model as f64).powf(-0.5) } else { 1.0 },
            ..Multipliers::ONE
        },
        attention: read_attention(config)?,
        feed_forward,
        encoder,
        max_tokens: config.optional_size("n_positions")?.unwrap_or(MAX_TOKENS),
        eos_ids: eos::read(config)?.unwrap_or_else(|| vec![1]),
        extra_blocks: 0,
        start_id,
    })
}

/// Unscaled attention with a relative position bias.
fn read_attention(config: &mut ConfigFile) -> Result<AttentionConfig, ModelError> {
    let n_heads = config.size("num_heads")?;
    let n_buckets = config.optional_size("relative_attention_num_buckets")?.unwrap_or(32);
    let max_distance = config.optional_size("relative_attention_max_distance")?.unwrap_or(128);
    if n_buckets < 4 || !n_buckets.is_multiple_of(4) {
        return Err(config.wrong("relative_attention_num_buckets", "a multiple of 4"));
    }
    if max_distance < n_buckets / 2 {
        let expected = format!("at least {}, half of the buckets", n_buckets / 2);
        return Err(config.wrong("relative_attention_max_distance", &expected));
    }
    Ok(AttentionConfig {
        n_heads,
        n_kv_heads: n_heads,
        d_head: config.size("d_kv")?,
        bias: false,
        bare_output: false,
        qk_norm: QkNorm::None,
        clip: None,
        scale: Some(1.0),
        window: None,
        chunk: None,
        unwindowed: Vec::new(),
        sinks: false,
        latent: None,
        unrotated: Vec::new(),
        temperature: None,
        rope: None,
        relative: Some(RelativeConfig { n_buckets, max_distance }),
    })
}

fn read_networks(config: &mut ConfigFile) -> Result<(DenseConfig, MoeConfig), ModelError> {
    let d_hidden = config.size("d_ff")?;
    let act: Option<String> = config.optional("dense_act_fn", "a name")?;
    let act = match act.as_deref().unwrap_or("relu") {
        "relu" => HiddenAct::Relu,
        "gelu" => HiddenAct::Gelu,
        _ => return Err(config.wrong("dense_act_fn", "relu or gelu")),
    };
    let network = NetworkConfig { gated: false, act };
    let n_experts = config.count("num_experts", MAX_EXPERTS)?;
    let moe = MoeConfig {
        router_bias: config.flag("router_bias", false)?,
        capacity: Some(config.optional_size("expert_capacity")?.unwrap_or(64)),
        network,
        ..MoeConfig::new([n_experts, 1], d_hidden)
    };
    Ok((DenseConfig { d_hidden, network }, moe))
}

/// One MoE block every `n_blocks / n_sparse` blocks, counted as in the reference.
fn blocks(
    n_blocks: usize,
    n_sparse: usize,
    dense: DenseConfig,
    moe: MoeConfig,
) -> Vec<FeedForwardConfig> {
    let step = n_blocks.checked_div(n_sparse).unwrap_or(n_blocks);
    let is_moe = |block: usize| step == 1 || step > 0 && block % step == 1;
    let kind = |block| match is_moe(block) {
        true => FeedForwardConfig::Moe(moe),
        false => FeedForwardConfig::Dense(dense),
    };
    (0..n_blocks).map(kind).collect()
}
