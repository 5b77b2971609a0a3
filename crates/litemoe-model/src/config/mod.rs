//! Model configuration: the types here, their readers in [`read`].

mod attention;
mod feed_forward;
mod model;
pub(crate) mod read;
mod rope;

pub use attention::{AttentionConfig, LatentConfig, QkNorm, RelativeConfig, Temperature};
pub use feed_forward::{
    DenseConfig, FeedForwardConfig, GroupConfig, GroupScore, MoeConfig, NetworkConfig, RouterKind,
};
pub use model::{ModelConfig, Multipliers, NormKind};
pub use rope::{RopeConfig, RopeScaling};
