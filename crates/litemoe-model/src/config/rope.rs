use std::f64::consts::PI;

use serde::Serialize;

/// A rotary position embedding (RoFormer, arXiv 2104.09864).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RopeConfig {
    /// Base of the wavelengths.
    pub theta: f64,
    /// How longer contexts than the one trained on are reached.
    pub scaling: RopeScaling,
    /// Whether pairs are dimensions `(2i, 2i + 1)` and not `(i, i + width / 2)`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interleaved: bool,
}

/// How a rotary embedding is stretched.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all. Also `dynamic`, which changes nothing within the longest row.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The stretch.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, a ramp between (Llama 3, arXiv 2407.21783).
    Llama3 {
        /// The stretch.
        factor: f64,
        /// Wavelengths longer than `original / low` are divided.
        low: f64,
        /// Wavelengths shorter than `original / high` are kept.
        high: f64,
        /// The context trained on.
        original: usize,
    },
    /// A ramp over dimensions, and attention scaled (YaRN, arXiv 2309.00071).
    Yarn {
        /// The stretch.
        factor: f64,
        /// Rotations within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which it is divided.
        beta_slow: f64,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
        /// What cosine and sine are multiplied by.
        attention_factor: f64,
        /// The context trained on.
        original: usize,
        /// What DeepSeek scales attention by, once for queries and once for keys.
        #[serde(skip)]
        all_dims: f64,
    },
    /// Every frequency divided by a factor of its own (LongRoPE, arXiv 2402.13753).
    Long {
        /// One for each pair of dimensions, those within the original context.
        factors: Vec<f64>,
        /// What cosine and sine are multiplied by.
        attention_factor: f64,
        /// The context trained on, and the longest row: beyond it the factors are others, for every position.
        original: usize,
    },
}

impl RopeConfig {
    /// Whether f32 holds all it is made of.
    pub(crate) fn is_finite(&self, d_rotated: usize) -> bool {
        // YaRN's ramp is between logarithms to this base.
        let is_one = self.theta == 1.0 && matches!(self.scaling, RopeScaling::Yarn { .. });
        let frequencies = self.frequencies(d_rotated);
        let is_positive = |number: f32| number.is_finite() && number > 0.0;
        !is_one
            && frequencies.into_iter().all(is_positive)
            && is_positive(self.attention_factor())
            && is_positive(self.score_factor() as f32)
    }

    /// The longest row that it is defined for.
    pub(crate) fn max_tokens(&self) -> usize {
        match self.scaling {
            RopeScaling::Long { original, .. } => original,
            _ => usize::MAX,
        }
    }

    /// How many pairs of dimensions it is for, where that is said.
    pub(crate) fn pairs(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::Long { factors, .. } => Some(factors.len()),
            _ => None,
        }
    }

    /// What DeepSeek's models multiply attention scores by beyond `1/√d_head`.
    pub(crate) fn score_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { all_dims, .. } => all_dims * all_dims,
            _ => 1.0,
        }
    }

    /// Radians per position of each pair of dimensions, `d_head / 2` of them.
    pub(crate) fn frequencies(&self, d_head: usize) -> Vec<f32> {
        let pairs = d_head / 2;
        let plain = (0..pairs).map(|i| {
            let exponent = (2 * i) as f32 / d_head as f32;
            1.0 / (self.theta as f32).powf(exponent)
        });
        match self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Long { ref factors, .. } => {
                let powers =
                    (0..pairs).map(|i| (self.theta as f32).powf((2 * i) as f32 / d_head as f32));
                powers.zip(factors).map(|(power, &factor)| 1.0 / (factor as f32 * power)).collect()
            }
            RopeScaling::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
            RopeScaling::Llama3 { factor, low, high, original } => {
                plain.map(|f| llama3(f64::from(f), factor, low, high, original as f64)).collect()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, truncate, original, .. } => {
                let end = |rotations: f64| {
                    let turns = original as f64 / (rotations * 2.0 * PI);
                    d_head as f64 * turns.ln() / (2.0 * self.theta.ln())
                };
                let (low, high) = (end(beta_fast), end(beta_slow));
                let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let ramp = Ramp::new(low.max(0.0), high.min((d_head - 1) as f64));
                plain.enumerate().map(|(i, f)| ramp.mix(i, f64::from(f), factor)).collect()
            }
        }
    }

    /// What cosine and sine are multiplied by.
    pub(crate) fn attention_factor(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. }
            | RopeScaling::Long { attention_factor, .. } => attention_factor as f32,
            _ => 1.0,
        }
    }
}

impl RopeScaling {
    /// YaRN as it is meant, without rounding the ramp's ends.
    pub(crate) fn yarn(factor: f64, original: usize) -> Self {
        Self::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: false,
            attention_factor: yarn_mscale(factor, 1.0),
            original,
            all_dims: 1.0,
        }
    }
}

/// YaRN's attention factor (arXiv 2309.00071, equation 22).
pub(crate) fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f32 {
    let wavelength = 2.0 * PI / frequency;
    let scaled = if wavelength > original / low {
        frequency / factor
    } else if wavelength < original / high {
        frequency
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    };
    scaled as f32
}

/// From 0 at `low` to 1 at `high`, over pairs of dimensions.
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    fn new(low: f64, high: f64) -> Self {
        // Equal ends would divide by zero; the reference widens them by the same amount.
        Self { low, high: if low == high { high + 0.001 } else { high } }
    }

    /// The frequency kept before the ramp, divided after it.
    fn mix(&self, pair: usize, frequency: f64, factor: f64) -> f32 {
        let interpolated = ((pair as f64 - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        (frequency / factor * interpolated + frequency * (1.0 - interpolated)) as f32
    }
}
