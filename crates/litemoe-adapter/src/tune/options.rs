use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::Micro;
use crate::AdapterError;

/// More makes every choice of experts a draw.
const MAX_NOISE: f64 = 100.0;

/// How an adapter is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneOptions {
    /// Optimiser steps, at least 1.
    pub steps: usize,
    /// Rows of a step, at least 1.
    pub batch: usize,
    /// Rows in memory at once, at least 1; gradients are summed up to `batch` rows. Smaller needs less memory and changes
    /// nothing but rounding.
    pub micro_batch: usize,
    /// Threads that share those rows, at least 1. A number of its own and not the machine's, since it changes rounding:
    /// the same options give the same adapter.
    pub threads: usize,
    /// Recompute each block in the backward pass instead of keeping its activations: less memory, one more forward pass.
    pub recompute: bool,
    /// The largest learning rate, above 0.
    pub lr: f64,
    /// Steps over which the learning rate rises linearly to its largest.
    pub warmup: usize,
    /// The share of the largest learning rate that the cosine ends at, in [0, 1].
    pub final_lr: f64,
    /// Decoupled weight decay, at least 0.
    pub weight_decay: f64,
    /// Standard deviation of the noise on router logits while training, in logits; 0 for none. See
    /// [`RouterNoise`](litemoe_core::RouterNoise). Records from before it was there mean 0.
    #[serde(default)]
    pub router_noise: f64,
    /// Steps between looks at the validation rows, at least 1; the last step is always looked at.
    pub validate_every: usize,
    /// Shuffle the rows anew in every epoch, or keep their order.
    pub shuffle: bool,
    /// Seed of the shuffling and of the noise.
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
    /// The learning rate of a step, counted from 1: a linear rise over `warmup` steps, then a cosine that reaches
    /// `final_lr · lr` at the last step.
    pub fn lr_at(&self, step: usize) -> f64 {
        if step <= self.warmup {
            return self.lr * step as f64 / self.warmup as f64;
        }
        let share = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        let cosine = 0.5 * (1.0 + (PI * share).cos());
        self.lr * (self.final_lr + (1.0 - self.final_lr) * cosine)
    }

    pub(super) fn micro(&self) -> Micro {
        Micro { rows: self.micro_batch, threads: self.threads, recompute: self.recompute }
    }

    /// Whether the validation rows are looked at after a step.
    pub(super) fn validates_at(&self, step: usize) -> bool {
        step.is_multiple_of(self.validate_every) || step == self.steps
    }

    /// Refuses an option out of range.
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
        let finite = |value: f64| value.is_finite();
        require("lr", &self.lr, finite(self.lr) && self.lr > 0.0, "a number above 0")?;
        require("final_lr", &self.final_lr, (0.0..=1.0).contains(&self.final_lr), "in [0, 1]")?;
        let decay = self.weight_decay;
        require("weight_decay", &decay, finite(decay) && decay >= 0.0, "a number not below 0")?;
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
