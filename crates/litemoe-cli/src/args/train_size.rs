use std::fmt;
use std::str::FromStr;

use litemoe_adapter::TuneOptions;
use serde::{Serialize, Serializer};

use crate::forecast::{Batch, TuneMemory};

/// Rows of a training step and tokens of each: `4x256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrainSize {
    pub(crate) rows: usize,
    pub(crate) tokens: usize,
}

impl TrainSize {
    /// `--train` without a value given.
    pub(crate) const USUAL: Self = Self { rows: 1, tokens: 256 };

    /// What the memory of a step depends on, with the usual number of threads.
    pub(crate) fn step(self) -> TuneMemory {
        let batch = Batch::of_equal(self.rows, self.tokens);
        let parts = TuneOptions::default().threads.min(self.rows);
        TuneMemory { batch, parts, recompute: false }
    }
}

impl fmt::Display for TrainSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.tokens)
    }
}

impl FromStr for TrainSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |number: &str| number.parse().ok();
        let sizes = text.split_once('x').and_then(|(rows, tokens)| parse(rows).zip(parse(tokens)));
        match sizes {
            // A row's first token is not predicted.
            Some((rows @ 1.., tokens @ 2..)) => Ok(Self { rows, tokens }),
            _ => Err("expected ROWSxTOKENS, at least 1x2, such as 4x256".to_owned()),
        }
    }
}

impl Serialize for TrainSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_tokens() {
        assert_eq!("4x256".parse(), Ok(TrainSize { rows: 4, tokens: 256 }));
        assert_eq!(TrainSize { rows: 4, tokens: 256 }.to_string(), "4x256");
        for wrong in ["", "4", "4x", "x4", "0x4", "4x1", "4X4", "-1x4", "4x4x4", "1e3x4"] {
            assert!(wrong.parse::<TrainSize>().is_err(), "{wrong}");
        }
    }
}
