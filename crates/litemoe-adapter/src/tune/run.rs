use std::path::Path;

use burn::tensor::Tensor;
use litemoe_core::{Adapters, Fingerprint, LanguageModel, Lora, MountedAdapter, Site, WeightDtype};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::adamw::{AdamW, Moments};
use super::data::TuneData;
use super::gradients::{Row, batch_gradients};
use super::order::Order;
use super::state::{Best, RunId, TuneState};
use super::tuned::Tuned;
use super::{Gradients, TuneOptions};
use crate::batch::check_rows;
use crate::evaluate::{evaluate_with, evaluation_workers};
use crate::workers::Workers;
use crate::{AdapterError, Evaluation, check_fit};

/// Tuning checkpoint: file and interval.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint<'a> {
    /// Checkpoint file. If it exists, the run resumes from it.
    pub path: &'a Path,
    /// Steps between saves, at least 1; the last step is always saved.
    pub every: usize,
    /// Fingerprint of the tuned model.
    pub model: &'a Fingerprint,
    /// Number format of its weights in memory.
    pub dtype: WeightDtype,
}

/// Report of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The step, from 1.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Training loss: mean negative log-likelihood per token of the step's rows, before the update, in nats.
    pub loss: f64,
    /// Tokens in the step's rows.
    pub tokens: u64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Evaluation on the validation rows after the step, if validated.
    pub validation: Option<Evaluation>,
}

/// Observer of a tuning run. Every method does nothing unless overridden.
pub trait TuneObserver {
    /// The run resumes after `step` steps.
    fn resumed(&mut self, step: usize) {
        let _ = step;
    }

    /// A step is done.
    fn stepped(&mut self, report: &StepReport) {
        let _ = report;
    }
}

/// No observer.
impl TuneObserver for () {}

/// LoRA tuning: trains adapters of a frozen model with AdamW and keeps the step with the lowest validation loss.
///
/// The same model, rows, options and number of threads give the same adapter bit for bit, even if the run is killed and
/// resumed from its checkpoint.
///
/// # Errors
/// Options out of range, rows the model cannot take, adapters that do not fit it, a checkpoint of another run or one
/// that cannot be read or written (if it would have too many weights, before the first step), and a loss or a gradient
/// that is not finite.
pub fn tune<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    initial: &Adapters,
    data: TuneData<'_>,
    options: &TuneOptions,
    checkpoint: Option<Checkpoint<'_>>,
    watcher: &mut dyn TuneObserver,
) -> Result<Tuned, AdapterError> {
    check(model, initial, data, options)?;
    let saver = checkpoint.map(|file| Saver::new(file, initial, data, options)).transpose()?;
    let resumed = saver.as_ref().map(|saver| saver.resume(initial)).transpose()?.flatten();
    if let Some(state) = &resumed {
        watcher.resumed(state.step);
    }
    let state = resumed.unwrap_or_else(|| TuneState::start(initial));
    if let Some(saver) = &saver {
        state.check_header(saver.file.path, &saver.id)?;
    }
    let shuffle = options.shuffle.then_some(options.seed);
    let order = Order::new(data.train.len(), options.batch, shuffle);
    let (workers, validation) = (Workers::new(options.micro().threads), evaluation_workers());
    Run { model, data, options, state, order, workers, validation }.finish(saver.as_ref(), watcher)
}

fn check<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    initial: &Adapters,
    data: TuneData<'_>,
    options: &TuneOptions,
) -> Result<(), AdapterError> {
    options.check()?;
    if initial.is_empty() {
        return Err(AdapterError::NoTargets);
    }
    check_fit(initial, model.linear_sites())?;
    check_rows(model, "training", data.train)?;
    match data.validation {
        [] => Ok(()),
        rows => check_rows(model, "validation", rows),
    }
}

/// Saves and resumes a run.
struct Saver<'a> {
    file: Checkpoint<'a>,
    id: RunId,
    data: TuneData<'a>,
}

impl<'a> Saver<'a> {
    fn new(
        file: Checkpoint<'a>,
        initial: &Adapters,
        data: TuneData<'a>,
        options: &TuneOptions,
    ) -> Result<Self, AdapterError> {
        if file.every == 0 {
            let (option, given) = ("checkpoint_every", "0".to_owned());
            return Err(AdapterError::Option { option, given, expected: "at least 1" });
        }
        let id = RunId::new((file.model, file.dtype), initial, data, options);
        Ok(Self { file, id, data })
    }

    fn resume(&self, initial: &Adapters) -> Result<Option<TuneState>, AdapterError> {
        if !self.file.path.exists() {
            return Ok(None);
        }
        TuneState::read(self.file.path, &self.id, initial, self.data).map(Some)
    }

    fn save(&self, state: &TuneState, last: usize) -> Result<(), AdapterError> {
        if state.step.is_multiple_of(self.file.every) || state.step == last {
            state.write(self.file.path, &self.id)?;
        }
        Ok(())
    }
}

/// State of a run between two steps.
struct Run<'a, M: ?Sized> {
    model: &'a M,
    data: TuneData<'a>,
    options: &'a TuneOptions,
    state: TuneState,
    order: Order,
    /// Thread pools of the parts of a batch.
    workers: Workers,
    /// Thread pools of the validations.
    validation: Workers,
}

impl<'a, M: LanguageModel + Sync + ?Sized> Run<'a, M> {
    fn finish(
        mut self,
        saver: Option<&Saver<'_>>,
        watcher: &mut dyn TuneObserver,
    ) -> Result<Tuned, AdapterError> {
        while self.state.step < self.options.steps {
            let report = self.step()?;
            if let Some(saver) = saver {
                saver.save(&self.state, self.options.steps)?;
            }
            watcher.stepped(&report);
        }
        Ok(self.state.into_tuned())
    }

    fn step(&mut self) -> Result<StepReport, AdapterError> {
        let step = self.state.step + 1;
        let rows = self.rows_of(step);
        let micro = self.options.micro();
        let gradients =
            batch_gradients(self.model, &self.state.adapters, &rows, micro, &self.workers);
        if !gradients.loss.is_finite() {
            return Err(AdapterError::LossNotFinite { step, loss: gradients.loss });
        }
        if let Some(site) = gradients.not_finite() {
            return Err(AdapterError::GradientNotFinite { step, site: site.clone() });
        }
        let (loss, lr) = (gradients.loss, self.options.lr_at(step));
        self.update(AdamW { lr, weight_decay: self.options.weight_decay, step }, gradients);
        let tokens = rows.iter().map(|row| row.row.n_tokens() as u64).sum();
        self.state.step = step;
        self.state.tokens += tokens;
        let validation = self.validate()?;
        Ok(StepReport { step, steps: self.options.steps, loss, tokens, lr, validation })
    }

    /// Rows of a step with their router noise; both depend only on the step.
    fn rows_of(&mut self, step: usize) -> Vec<Row<'a>> {
        let std = self.options.router_noise as f32;
        let mut seeds = ChaCha8Rng::seed_from_u64(self.options.seed);
        seeds.set_stream(u64::MAX - step as u64); // disjoint from the epochs' streams
        let row = |row| {
            let noise = (std > 0.0).then(|| (std, seeds.next_u64()));
            Row { row: &self.data.train[row], noise }
        };
        self.order.rows_of(step).into_iter().map(row).collect()
    }

    fn update(&mut self, rule: AdamW, mut gradients: Gradients) {
        let moments = &mut self.state.moments;
        let lora = |(site, lora): (&Site, &Lora)| {
            let gradient = gradients.by_site.remove(site).expect("every update has a gradient");
            let [a, b] = moments.get_mut(site).expect("every update has moments");
            let update = |weight: &Tensor<2>, gradient, moments: &mut Moments| {
                rule.update(weight.clone(), gradient, moments)
            };
            let (a, b) = (update(&lora.a, gradient.a, a), update(&lora.b, gradient.b, b));
            (site.clone(), Lora { a, b, scale: lora.scale })
        };
        self.state.adapters = self.state.adapters.loras().map(lora).collect();
    }

    /// Validates if due, and keeps the adapter if it is the best so far.
    fn validate(&mut self) -> Result<Option<Evaluation>, AdapterError> {
        if !self.options.validates_at(self.state.step) {
            return Ok(None);
        }
        let (rows, adapters) = (self.data.validation, &self.state.adapters);
        let evaluation = match rows {
            [] => None,
            rows => {
                let mounted = MountedAdapter::from(adapters.clone());
                let (workers, mounted) = (&self.validation, Some(&mounted));
                let tokens = self.options.validation_tokens();
                Some(evaluate_with(workers, self.model, rows, mounted, tokens, &mut |_| ())?)
            }
        };
        if self.state.best.as_ref().is_none_or(|best| best.is_beaten_by(evaluation.as_ref())) {
            let adapters = adapters.clone();
            self.state.best =
                Some(Best { step: self.state.step, adapters, validation: evaluation });
        }
        Ok(evaluation)
    }
}
