use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Byte budget of a proxy's experts: a share of the foundation's expert bytes, or an absolute number of bytes.
///
/// Text form: `0.33`, or `4MiB` (units `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Share of the foundation's expert bytes, in (0, 1].
    Share(f64),
    /// Number of bytes, above 0.
    Bytes(u64),
}

impl Budget {
    /// The budget in bytes, for a foundation with `total` expert bytes.
    pub fn bytes_of(self, total: u64) -> u64 {
        match self {
            Self::Share(share) => (share * total as f64).floor() as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Parse error of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "budget `{given}` is neither a share above 0 and at most 1 (such as 0.33) nor bytes above 0 (such as 4MiB)"
)]
pub struct BudgetError {
    given: String,
}

const UNITS: [(&str, f64); 7] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("B", 1.0),
];

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let error = || BudgetError { given: given.to_owned() };
        let text = given.trim();
        let unit = UNITS.iter().find_map(|&(unit, size)| Some((text.strip_suffix(unit)?, size)));
        let (number, size) = unit.unwrap_or((text, 0.0));
        let number: f64 = number.trim().parse().map_err(|_| error())?;
        match size {
            0.0 if number > 0.0 && number <= 1.0 => Ok(Self::Share(number)),
            0.0 => Err(error()),
            _ if number * size >= 1.0 && (number * size).is_finite() => {
                Ok(Self::Bytes((number * size) as u64))
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}"),
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
