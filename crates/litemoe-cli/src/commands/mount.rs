use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::model::Loaded;
use crate::{input, output, progress};

/// The mounting scale asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// The guard chooses on validation rows.
    Auto,
    /// A number in [0, 1].
    Fixed(f32),
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse::<f32>()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(scale)) if (0.0..=1.0).contains(&scale) => Ok(Self::Fixed(scale)),
            _ => Err("a scale is `auto` or a number in [0, 1]".to_owned()),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(scale) => write!(f, "{scale}"),
        }
    }
}
