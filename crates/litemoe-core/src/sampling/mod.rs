//! Sampling of the next token: configuration, logit processing and random draws.

mod error;
mod history;
mod kept;
mod logprobs;
mod rule;
mod sampler;
#[cfg(test)]
mod tests;

pub use error::SamplingError;
pub use logprobs::Logprobs;
pub use rule::Sampling;
pub use sampler::Sampler;
