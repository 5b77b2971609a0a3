use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Refit of the kept experts' down projections by ridge regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RefitKind {
    /// No refit: the proxy is a submodel of the foundation.
    #[default]
    None,
    /// Low-rank change, written as an adapter of the unchanged proxy; `tune --init` continues from it.
    LowRank,
    /// Full-rank change of the proxy's own weights.
    Full,
}

impl fmt::Display for RefitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::LowRank => "low-rank",
            Self::Full => "full",
        })
    }
}

impl FromStr for RefitKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ValueEnum::from_str(text, false).map_err(|_| "a refit is none, low-rank or full".to_owned())
    }
}
