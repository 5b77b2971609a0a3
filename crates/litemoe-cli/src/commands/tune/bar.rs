use std::time::Instant;

use litemoe_adapter::{StepReport, TuneObserver};

use crate::output;
use crate::progress::{self, Progress};

/// Progress and log of a run.
pub(super) struct Bar {
    progress: Progress,
    start: Instant,
    resumed_after: usize,
    tokens: u64,
    losses: Vec<f64>,
    validation: String,
}

impl Bar {
    pub(super) fn new(steps: usize) -> Self {
        Self {
            progress: progress::begin("tuning", steps as u64, "steps"),
            start: Instant::now(),
            resumed_after: 0,
            tokens: 0,
            losses: Vec::new(),
            validation: String::new(),
        }
    }

    pub(super) fn finish(self) -> Log {
        let tokens_per_second = self.speed();
        self.progress.finish();
        Log { resumed_after: self.resumed_after, losses: self.losses, tokens_per_second }
    }

    fn speed(&self) -> f64 {
        self.tokens as f64 / self.start.elapsed().as_secs_f64()
    }
}

/// Log of a run's steps.
pub(super) struct Log {
    pub(super) resumed_after: usize,
    pub(super) losses: Vec<f64>,
    pub(super) tokens_per_second: f64,
}

impl TuneObserver for Bar {
    fn resumed(&mut self, step: usize) {
        self.resumed_after = step;
        self.progress.set(step as u64);
        output::note(&format!("resumed after step {step}"));
    }

    fn stepped(&mut self, report: &StepReport) {
        self.tokens += report.tokens;
        self.losses.push(report.loss);
        if let Some(validation) = report.validation {
            self.validation = format!(", validation {:.3}", validation.loss());
        }
        let speed = self.speed();
        let detail = format!("loss {:.3}{}, {speed:.0} tokens/s", report.loss, self.validation);
        self.progress.detail(detail);
        self.progress.stepped(report.step as u64, report.loss);
        tracing::debug!(step = report.step, loss = report.loss, lr = report.lr, "stepped");
        if let Some(validation) = report.validation {
            let (loss, accuracy) = (validation.loss(), validation.accuracy());
            tracing::info!(step = report.step, loss, accuracy, "validated");
            self.progress.validated(loss, accuracy);
        }
    }
}
