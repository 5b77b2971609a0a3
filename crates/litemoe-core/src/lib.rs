#![doc = include_str!("../README.md")]
//!
//! # Dimension names
//! `batch`: rows in a batch · `seq`: longest row · `tokens`: tokens of all rows, packed, no padding · `vocab`:
//! vocabulary size · `d_model`: width of the residual stream · `d_expert`: intermediate size of an expert ·
//! `n_experts`: experts in a layer · `top_k`: experts per token · `n_heads`, `d_head`: attention heads and their width.

mod adapters;
mod batching;
mod block_driver;
mod budget;
mod by_layer;
mod by_rows;
mod by_tokens;
mod cache_dtype;
mod causal_lm;
mod checksummed;
mod constraint;
pub mod criteria;
mod decoding;
mod exact_sum;
mod expert;
mod fingerprint;
mod generation;
mod input;
mod lora;
mod model;
mod mounted;
mod name;
mod noise;
mod observer;
mod packing;
mod pass;
mod plan;
mod plan_options;
mod router_bias;
mod routing;
mod sampling;
mod scores;
mod shared;
pub mod similarity;
mod site;
mod weight_dtype;

pub use adapters::{Adapter, Adapters};
pub use batching::{BatchLimits, batches};
pub use block_driver::BlockDriver;
pub use budget::Budget;
pub use by_rows::ByRows;
pub use by_tokens::ByTokens;
pub use cache_dtype::CacheDtype;
pub use causal_lm::{CausalLm, RowStep, WantedLogits, logits_rows};
pub use checksummed::{ChecksumError, Checksummed};
pub use constraint::{ConstraintError, TokenConstraint, TokenSet};
pub use criteria::{Criterion, ExpertSum};
pub use decoding::Decoding;
pub use exact_sum::ExactSums;
pub use expert::{
    ExpertBiases, ExpertGroups, ExpertId, ExpertPart, ExpertWeights, LayerId, MoeLayer, Stack,
};
pub use fingerprint::{Fingerprint, sha256_hex};
pub use generation::{Generation, GenerationError, NotFiniteLogit, PREFILL_CHUNK, SampledToken};
pub use input::{Input, Sequence, Stream, TokenRow};
pub use lora::Lora;
pub use model::{
    ExpertSource, ExpertStack, LanguageModel, LinearRole, LinearSite, MoeModel, StackOrder,
};
pub use mounted::MountedAdapter;
pub use name::UnknownName;
pub use noise::RouterNoise;
pub use observer::{Activation, Observer};
pub use packing::Packing;
pub use pass::Pass;
pub use plan::{AbsorbedExpert, Group, LayerPlan, PLAN_VERSION, Plan, PlanError};
pub use plan_options::{Alignment, LitemoeOptions, MergeMethod, PlanMethod, PlanOptions};
pub use router_bias::{BiasStage, RouterBias, RouterBiasError};
pub use routing::{RouterRule, Routing};
pub use sampling::{Logprobs, Sampler, Sampling, SamplingError};
pub use scores::{
    ExpertScores, LayerSums, Privacy, SCORES_VERSION, ScoreOrigin, ScoresError, Shard,
};
pub use similarity::{Similarity, SimilarityKind};
pub use site::Site;
pub use weight_dtype::WeightDtype;
