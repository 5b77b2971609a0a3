//! Transformer layers.

pub(crate) mod attention;
mod attention_mask;
pub(crate) mod block;
pub(crate) mod context;
pub(crate) mod embedding;
mod expert_capacity;
mod expert_sites;
pub(crate) mod feed_forward;
pub(crate) mod gating;
pub(crate) mod head;
pub(crate) mod kv_cache;
pub(crate) mod linear;
mod mask;
pub(crate) mod norm;
pub(crate) mod positions;
pub(crate) mod redirection;
pub(crate) mod relative_position_bias;
mod rope;
pub(crate) mod router;
pub(crate) mod router_bias;
mod sparse_mixer;

pub(crate) use expert_sites::ExpertSites;
