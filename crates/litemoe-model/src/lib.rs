#![doc = include_str!("../README.md")]

mod attention;
mod block;
mod cache;
mod checkpoint;
mod config;
mod config_file;
mod eos;
mod error;
mod family;
mod feed_forward;
mod fingerprint;
mod generate;
mod linear;
mod load;
mod model;
mod norm;
mod positions;
mod proxy;
mod proxy_weights;
mod qwen3_moe;
mod redirection;
mod rope;
mod router;
mod stored;
mod tensors;
mod weight_files;

pub use cache::KvCache;
pub use checkpoint::{Checkpoint, CheckpointExperts};
pub use config::{AttentionConfig, FeedForwardConfig, ModelConfig};
pub use error::ModelError;
pub use generate::{Finish, Stop, generate};
pub use model::Model;
pub use proxy::write_proxy;
pub use proxy_weights::MakeExperts;
pub use rope::{RopeConfig, RopeScaling};
