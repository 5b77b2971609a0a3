use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::MicroBatch;
use crate::{AdapterError, BATCH_TOKENS};

/// Largest router noise: beyond it the choice of experts is practically random.
const MAX_NOISE: f64 = 100.0;

/// Largest number of steps, and of rows in a batch: more could not be counted or held.
const MAX_STEPS: usize = 1 << 30;
const MAX_BATCH: usize = 1 << 20;

/// Options of LoRA tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneOptions {
    /// Optimizer steps, 1 to 2^30.
    pub steps: usize,
    /// Batch size: rows per optimizer step, 1 to 2^20.
    pub batch: usize,
    /// MicroBatch-batch: rows in memory at once, at least 1, with gradient accumulation up to `batch` rows. A smaller one
    /// needs less memory and affects only rounding.
    pub micro_batch: usize,
    /// Threads per micro-batch, at least 1. Not taken from the machine, because it affects rounding: the same options
    /// give the same adapter.
    pub threads: usize,
    /// Activation checkpointing: recompute each block in the backward pass instead of keeping its activations. Less
    /// memory, one more forward pass.
    pub recompute: bool,
    /// Peak learning rate, above 0.
    pub lr: f64,
    /// Learning-rate warmup: steps of the linear rise to `lr`.
    pub warmup: usize,
    /// Final learning rate of the cosine decay, as a share of `lr`, in [0, 1].
    pub final_lr: f64,
    /// AdamW's decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Router noise: standard deviation of the noise on the router logits during tuning, in [0, 100]; 0 for none. See
    /// [`RouterNoise`](litemoe_core::RouterNoise). Older records lack it, which means 0.
    #[serde(default)]
    pub router_noise: f64,
    /// Steps between validations, at least 1; the last step is always validated.
    pub validate_every: usize,
    /// Whether to shuffle the rows in every epoch or keep their order.
    pub shuffle: bool,
    /// Seed of shuffling and router noise.
    pub seed: u64,
}

impl Default for TuneOptions {
    fn default() -> Self {
        Self {
            steps: 300,
            batch: 16,
            micro_batch: 16,
            threads: 2,
            recompute: false,
            lr: 2e-3,
            warmup: 20,
            final_lr: 0.05,
            weight_decay: 0.0,
            router_noise: 0.0,
            validate_every: 50,
            shuffle: true,
            seed: 0,
        }
    }
}

impl TuneOptions {
    /// Learning-rate schedule: the rate of a step, counted from 1. Linear warmup over `warmup` steps, then cosine decay
    /// to `final_lr · lr` at the last step.
    pub fn lr_at(&self, step: usize) -> f64 {
        if step <= self.warmup {
            return self.lr * step as f64 / self.warmup as f64;
        }
        let share = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        let cosine = 0.5 * (1.0 + (PI * share).cos());
        self.lr * (self.final_lr + (1.0 - self.final_lr) * cosine)
    }

    /// Number of tokens that a validation computes at once.
    pub fn validation_tokens(&self) -> usize {
        if self.recompute { BATCH_TOKENS / 2 } else { BATCH_TOKENS }
    }

    pub(super) fn micro(&self) -> MicroBatch {
        MicroBatch { rows: self.micro_batch, threads: self.threads, recompute: self.recompute }
    }

    /// Whether a step is followed by validation.
    pub(super) fn validates_at(&self, step: usize) -> bool {
        step.is_multiple_of(self.validate_every) || step == self.steps
    }

    /// Number of steps that are followed by validation.
    pub fn n_validations(&self) -> usize {
        self.steps.div_ceil(self.validate_every)
    }

    /// Checks that every option is in range.
    ///
    /// # Errors
    /// [`AdapterError::Option`]
    pub fn check(&self) -> Result<(), AdapterError> {
        let counts = [
            ("steps", self.steps),
            ("batch", self.batch),
            ("micro_batch", self.micro_batch),
            ("threads", self.threads),
            ("validate_every", self.validate_every),
        ];
        for (option, given) in counts {
            require(option, &given, given > 0, "at least 1")?;
        }
        require("steps", &self.steps, self.steps <= MAX_STEPS, "at most 1073741824")?;
        require("batch", &self.batch, self.batch <= MAX_BATCH, "at most 1048576")?;
        let finite = |value: f64| (value as f32).is_finite();
        let is_rate = finite(self.lr) && self.lr > 0.0;
        require("lr", &format!("{:?}", self.lr), is_rate, "a number above 0, finite in f32")?;
        require("final_lr", &self.final_lr, (0.0..=1.0).contains(&self.final_lr), "in [0, 1]")?;
        let decay = self.weight_decay;
        let (given, is_decay) = (format!("{decay:?}"), finite(decay) && decay >= 0.0);
        require("weight_decay", &given, is_decay, "a number not below 0, finite in f32")?;
        let noise = self.router_noise;
        require("router_noise", &noise, (0.0..=MAX_NOISE).contains(&noise), "in [0, 100]")
    }
}

fn require(
    option: &'static str,
    given: &impl ToString,
    holds: bool,
    expected: &'static str,
) -> Result<(), AdapterError> {
    if holds {
        return Ok(());
    }
    Err(AdapterError::Option { option, given: given.to_string(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validations_are_counted_as_they_are_made() {
        for (steps, validate_every) in [(1, 1), (1, 50), (6, 3), (7, 3), (8, 3), (9, 1), (5, 9)] {
            let options = TuneOptions { steps, validate_every, ..TuneOptions::default() };
            let made = (1..=steps).filter(|&step| options.validates_at(step)).count();
            assert_eq!(options.n_validations(), made, "{steps}, {validate_every}");
        }
    }
}
