use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use litemoe_adapter::{BATCH_TOKENS, GuardOptions, Measure, MountRouting};
use serde::{Deserialize, Serialize};

use crate::args::auto::Auto;

/// How an adapter is mounted; the same on `mount` and `customize`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct MountOptions {
    /// How the foundation routes the app's tokens: restricted (to the experts that the proxy had), full (to any), a number
    /// above 0 (taken off the router's logits of the other experts), or auto (the best of these on the validation rows).
    #[arg(long, default_value_t = Auto::Auto)]
    pub(crate) routing: Auto<MountRouting>,
    /// What the adapter is multiplied by: a number in [0, 1], or auto (the best on the validation rows).
    #[arg(long, default_value_t = Auto::Auto)]
    pub(crate) scale: Auto<Scale>,
    /// What is better on the validation rows: a lower loss, or a higher accuracy.
    #[arg(long, value_enum, default_value_t = By::Loss)]
    pub(crate) by: By,
    /// Validation rows to choose on, the first ones.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    pub(crate) guard_rows: usize,
}

impl MountOptions {
    /// What the guard may choose among.
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

/// A number of rows that is not 0.
fn at_least_one(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|&count: &usize| count > 0);
    count.ok_or_else(|| "at least 1 is needed".to_owned())
}

/// A scale in [0, 1]; 0 is not mounted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale(f32);

impl Scale {
    /// Not mounted.
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

/// What the guard chooses by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// The lowest mean loss.
    Loss,
    /// The highest share of exact rows.
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
