use std::f64::consts::PI;

use serde::Serialize;

/// RoPE (rotary position embedding; RoFormer: Enhanced Transformer with Rotary Position Embedding, arXiv 2104.09864).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// Context extension.
    pub scaling: RopeScaling,
    /// Whether pairs are interleaved, dimensions `(2i, 2i + 1)`, rather than half-split, `(i, i + width / 2)`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interleaved: bool,
}

/// RoPE scaling, for context extension.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub enum RopeScaling {
    /// No scaling. Also `dynamic`, which changes nothing within the maximum row length.
    None,
    /// Position interpolation: every frequency divided by `factor`.
    Linear {
        /// Context extension factor.
        factor: f64,
    },
    /// Llama 3 scaling: low frequencies divided, high ones kept, a ramp between (The Llama 3 Herd of Models,
    /// arXiv 2407.21783).
    Llama3 {
        /// Context extension factor.
        factor: f64,
        /// Wavelengths longer than `original / low` are divided.
        low: f64,
        /// Wavelengths shorter than `original / high` are kept.
        high: f64,
        /// Original context length, in tokens.
        original: usize,
    },
    /// YaRN: a ramp over dimensions from kept to divided frequencies, and scaled attention (YaRN: Efficient Context
    /// Window Extension of Large Language Models, arXiv 2309.00071).
    Yarn {
        /// Context extension factor.
        factor: f64,
        /// Rotations within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which a frequency is divided.
        beta_slow: f64,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
        /// Factor on cosine and sine.
        attention_factor: f64,
        /// Original context length, in tokens.
        original: usize,
        /// DeepSeek's factor on queries and on keys (`mscale_all_dim`).
        #[serde(skip)]
        all_dims: f64,
    },
    /// LongRoPE: every frequency divided by its own factor (LongRoPE: Extending LLM Context Window Beyond 2 Million
    /// Tokens, arXiv 2402.13753).
    Long {
        /// Short factors, for the original context: one per pair of dimensions.
        factors: Vec<f64>,
        /// Factor on cosine and sine.
        attention_factor: f64,
        /// Original context length, in tokens; also the maximum row length, because longer rows use other factors at
        /// every position.
        original: usize,
    },
}

impl RopeConfig {
    /// Whether its frequencies and factors are finite and positive in f32.
    pub(crate) fn is_finite(&self, d_rotated: usize) -> bool {
        // YaRN's ramp uses logarithms to base theta.
        let is_one = self.theta == 1.0 && matches!(self.scaling, RopeScaling::Yarn { .. });
        let frequencies = self.frequencies(d_rotated);
        let is_positive = |number: f32| number.is_finite() && number > 0.0;
        !is_one
            && frequencies.into_iter().all(is_positive)
            && is_positive(self.attention_factor())
            && is_positive(self.score_factor() as f32)
    }

    /// Maximum row length that it is defined for.
    pub(crate) fn max_tokens(&self) -> usize {
        match self.scaling {
            RopeScaling::Long { original, .. } => original,
            _ => usize::MAX,
        }
    }

    /// Pairs of dimensions that it is defined for; `None` if any number.
    pub(crate) fn pairs(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::Long { factors, .. } => Some(factors.len()),
            _ => None,
        }
    }

    /// DeepSeek's factor on the attention scores, besides `1/√d_head`.
    pub(crate) fn score_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { all_dims, .. } => all_dims * all_dims,
            _ => 1.0,
        }
    }

    /// Frequency of each pair of dimensions in radians per position, `d_head / 2` of them.
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

    /// Factor on cosine and sine.
    pub(crate) fn attention_factor(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. }
            | RopeScaling::Long { attention_factor, .. } => attention_factor as f32,
            _ => 1.0,
        }
    }
}

impl RopeScaling {
    /// YaRN with default parameters, without rounding the ramp's ends.
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

/// YaRN attention factor (arXiv 2309.00071, equation 22).
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

/// Linear ramp from 0 at `low` to 1 at `high`, over pairs of dimensions.
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    fn new(low: f64, high: f64) -> Self {
        // Equal ends would divide by zero; the reference widens them by the same amount.
        Self { low, high: if low == high { high + 0.001 } else { high } }
    }

    /// Interpolates from the kept frequency before the ramp to the divided one after it.
    fn mix(&self, pair: usize, frequency: f64, factor: f64) -> f32 {
        let interpolated = ((pair as f64 - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        (frequency / factor * interpolated + frequency * (1.0 - interpolated)) as f32
    }
}
