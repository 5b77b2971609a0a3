use clap::Args;
use litemoe_core::{CacheDtype, WeightDtype};
use litemoe_model::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::args::listed;

/// `--cache-dtype` option of every command that decodes, or forecasts decoding.
#[derive(Debug, Clone, Copy, Default, Args, Serialize, Deserialize)]
pub(crate) struct CacheArgs {
    /// Number format of keys and values in the KV cache. bf16 halves the memory of a text, and needs the CPU and a
    /// decoder-only model [default: f32 with weights in f32 or an encoder, else bf16].
    #[arg(long, value_name = "FORMAT", value_parser = listed::cache_dtype())]
    #[serde(default)]
    pub(crate) cache_dtype: Option<CacheDtype>,
}

impl CacheArgs {
    /// The given format, or the default for a model with weights in a format.
    pub(crate) fn or_default(self, weights: WeightDtype, config: &ModelConfig) -> CacheDtype {
        let default = match weights {
            WeightDtype::F32 => CacheDtype::F32,
            _ if !config.encoder.is_empty() => CacheDtype::F32,
            _ => CacheDtype::Bf16,
        };
        self.cache_dtype.unwrap_or(default)
    }
}
