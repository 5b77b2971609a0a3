#![doc = include_str!("../README.md")]

mod checkpoint;
mod config;
mod error;
mod families;
mod fuse;
mod json;
mod layers;
mod leftovers;
mod linear_sites;
mod load;
mod model;
mod outline;
mod proxy;
mod quantise;
mod weights;

pub use checkpoint::experts::CheckpointExperts;
pub use checkpoint::origin::Origin;
pub use checkpoint::parts::{Part, StoredPart};
pub use checkpoint::quantised::Quantised;
pub use checkpoint::weight_files::shards;
pub use checkpoint::{Checkpoint, FingerprintCache};
pub use config::{
    AttentionConfig, DenseConfig, FeedForwardConfig, GroupConfig, GroupScore, LatentConfig,
    ModelConfig, MoeConfig, Multipliers, NetworkConfig, NormKind, QkNorm, RelativeConfig,
    RopeConfig, RopeScaling, RouterKind, Temperature,
};
pub use error::ModelError;
pub use fuse::rounding::Rounding;
pub use fuse::{Fused, Fusion, StagedFusion};
pub use layers::kv_cache::KvCache;
pub use leftovers::{Leftover, LeftoverReason};
pub use model::Model;
pub use outline::Outline;
pub use proxy::weights::MakeExperts;
pub use proxy::{
    SIDE_FILES, StagedProxy, check_proxy_target, proxy_bytes, stage_proxy, write_proxy,
};
pub use quantise::{Quantisation, StagedQuantisation};
