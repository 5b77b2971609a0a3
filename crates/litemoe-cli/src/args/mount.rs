use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use litemoe_adapter::{BATCH_TOKENS, GuardOptions, Measure, MountRouting};
use serde::{Deserialize, Serialize};

use crate::args::auto::Auto;
use crate::args::listed;

/// Mounting options of `mount` and `customize`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct MountOptions {
    /// Routing of the app's tokens on the foundation; a number above 0 is a penalty, subtracted from the router logits
    /// of experts outside the proxy.
    #[arg(long, default_value_t = Auto::Auto, value_parser = listed::routing())]
    pub(crate) routing: Auto<MountRouting>,
    /// LoRA scale: factor on the scale of every LoRA, in [0, 1]; 0 does not mount the adapter. auto takes the best of
    /// 1, 0.75, 0.5 and 0.25 on the validation rows.
    #[arg(long, default_value_t = Auto::Auto)]
    pub(crate) scale: Auto<Scale>,
    /// Metric on the validation rows that decides.
    #[arg(long, value_enum, default_value_t = By::Loss)]
    pub(crate) by: By,
    /// Number of validation rows to decide on, at least 1: the first N of the file.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    pub(crate) guard_rows: usize,
}

impl MountOptions {
    /// Options of the guard, which chooses routing and scale.
    pub(crate) fn guard(&self) -> GuardOptions {
        GuardOptions {
            routing: self.routing.given(),
            scale: self.scale.given().map(|Scale(scale)| scale),
            by: match self.by {
                By::Loss => Measure::Loss,
                By::Accuracy => Measure::Accuracy,
            },
            batch_tokens: BATCH_TOKENS,
        }
    }
}

/// Parses a number of rows, at least 1.
fn at_least_one(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|&count: &usize| count > 0);
    count.ok_or_else(|| "at least 1 is needed".to_owned())
}

/// LoRA scale in [0, 1]; 0 means not mounted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale(f32);

impl Scale {
    /// Scale of an adapter that is not mounted.
    pub(crate) const NONE: f32 = 0.0;
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scale = text.parse().ok().filter(|scale| (0.0..=1.0).contains(scale));
        scale.map(Self).ok_or_else(|| "a scale is a number in [0, 1]".to_owned())
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Metric that the guard ranks by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// Lowest mean negative log-likelihood per completion token.
    Loss,
    /// Highest exact-match accuracy; ties go to the lower loss.
    Accuracy,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
        })
    }
}
