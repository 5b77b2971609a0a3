use serde::{Deserialize, Serialize};

use crate::RegistryError;
use crate::job::Job;
use crate::job_spec_error::JobSpecError;
use crate::name::{AdapterName, NameError};

/// Maximum characters of a suffix: what an adapter's name leaves.
const MAX_SUFFIX: usize = 55;

/// Maximum numbers of epochs, and of rows in a batch.
const MAX_EPOCHS: u32 = 50;
const MAX_BATCH: u32 = 1024;

/// Maximum factor on the learning rate.
const MAX_FACTOR: f64 = 1000.0;

/// Digits of a job's id in the name of its adapter.
const ID_DIGITS: usize = 8;

/// Kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Tuning of an adapter on a proxy, and its mounting on the foundation.
    Customize,
}

/// Specification of a fine-tuning job: the JSON of [`Job::spec`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// What the job is.
    pub kind: JobKind,
    /// Name of the foundation, as it is served.
    pub model: String,
    /// Id of the app's file of training rows.
    pub training_file: String,
    /// Id of the app's file of validation rows; `None` holds training rows out.
    pub validation_file: Option<String>,
    /// Beginning of the adapter's name; `None` for `ft`.
    pub suffix: Option<AdapterName>,
    /// Seed of all random choices; `None` for the default one.
    pub seed: Option<u64>,
    /// Passes over the training rows, 1 to 50; `None` for the default number of steps.
    pub n_epochs: Option<u32>,
    /// Rows per optimizer step, 1 to 1024; `None` for the default.
    pub batch_size: Option<u32>,
    /// Factor on the default learning rate, in (0, 1000].
    pub learning_rate_multiplier: Option<f64>,
    /// Share of the foundation's expert bytes that the proxy keeps, in (0, 1]; `None` for the default.
    pub budget: Option<f64>,
}

impl JobSpec {
    /// The default tuning of a model on a file of training rows.
    pub fn new(model: impl Into<String>, training_file: impl Into<String>) -> Self {
        Self {
            kind: JobKind::Customize,
            model: model.into(),
            training_file: training_file.into(),
            validation_file: None,
            suffix: None,
            seed: None,
            n_epochs: None,
            batch_size: None,
            learning_rate_multiplier: None,
            budget: None,
        }
    }

    /// The specification of a job.
    ///
    /// # Errors
    /// [`UnknownSpec`](RegistryError::UnknownSpec).
    pub fn of(job: &Job) -> Result<Self, RegistryError> {
        Self::deserialize(&job.spec).map_err(|reason| RegistryError::UnknownSpec {
            id: job.id.clone(),
            reason: reason.to_string(),
        })
    }

    /// Checks the ranges of the values.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), JobSpecError> {
        let suffix = self.suffix.as_ref().map(AdapterName::as_str);
        expect("suffix", suffix, |it| it.len() <= MAX_SUFFIX, "of at most 55 characters")?;
        expect("n_epochs", self.n_epochs, |it| (1..=MAX_EPOCHS).contains(it), "from 1 to 50")?;
        expect("batch_size", self.batch_size, |it| (1..=MAX_BATCH).contains(it), "from 1 to 1024")?;
        expect(
            "learning_rate_multiplier",
            self.learning_rate_multiplier,
            |it| *it > 0.0 && *it <= MAX_FACTOR,
            "above 0 and at most 1000",
        )?;
        expect("budget", self.budget, |it| *it > 0.0 && *it <= 1.0, "above 0 and at most 1")
    }

    /// Name of the adapter that a job of this id makes: the suffix and the first digits of the id.
    ///
    /// # Errors
    /// If there is no such name.
    pub fn adapter(&self, id: &str) -> Result<AdapterName, NameError> {
        let suffix = self.suffix.as_ref().map_or("ft", AdapterName::as_str);
        let digits = id.rsplit('-').next().unwrap_or_default();
        format!("{suffix}-{}", digits.get(..ID_DIGITS).unwrap_or(digits)).parse()
    }
}

fn expect<T: ToString>(
    field: &'static str,
    value: Option<T>,
    holds: impl Fn(&T) -> bool,
    expected: &'static str,
) -> Result<(), JobSpecError> {
    match value.filter(|value| !holds(value)) {
        None => Ok(()),
        Some(given) => Err(JobSpecError { field, given: given.to_string(), expected }),
    }
}
