use std::process::Command;
use std::{env, io};

use anyhow::ensure;
use litemoe_adapter::TuneOptions;
use litemoe_registry::JobSpec;

use super::folder::Folder;
use super::setup::Setup;

/// Name of the rows in the output folder of `customize`.
pub(super) const APP: &str = "job";

/// Output folder of `customize`, in the job's folder.
pub(super) const OUT: &str = "out";

/// How much memory tuning is allowed to save at the cost of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Saving {
    /// As fast as possible.
    None,
    /// Activations of blocks are computed again.
    Recompute,
    /// Rows of a step also go one at a time.
    OneRow,
}

impl Saving {
    pub(super) const ALL: [Self; 3] = [Self::None, Self::Recompute, Self::OneRow];
}

/// Steps of a job that trains on its rows a given number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps(u64);

/// Maximum number of optimizer steps of a job.
const MAX_STEPS: u64 = 100_000;

impl Steps {
    /// Steps of the job's epochs; `None` for the default number of steps.
    ///
    /// # Errors
    /// If they are more than a job may have.
    pub(super) fn of(spec: &JobSpec, rows: u64) -> anyhow::Result<Option<Self>> {
        let Some(n_epochs) = spec.n_epochs else { return Ok(None) };
        let batch = batch(spec);
        let steps = rows.saturating_mul(n_epochs.into()).div_ceil(batch).max(1);
        ensure!(
            steps <= MAX_STEPS,
            "n_epochs is {n_epochs}, which is {steps} steps with {rows} training rows and batches of {batch}, but a job may \
             have {MAX_STEPS}"
        );
        Ok(Some(Self(steps)))
    }

    /// Options of the steps: short runs warm up for a tenth of their steps, and are validated four times.
    fn args(self) -> [String; 6] {
        let (Self(steps), default) = (self, TuneOptions::default());
        let warmup = steps.div_ceil(10).min(default.warmup as u64);
        let validate_every = steps.div_ceil(4).min(default.validate_every as u64);
        [
            "--steps".to_owned(),
            steps.to_string(),
            "--warmup".to_owned(),
            warmup.to_string(),
            "--validate-every".to_owned(),
            validate_every.to_string(),
        ]
    }
}

/// A command of this program as a job.
pub(super) fn job(verb: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env("LITEMOE_LOG", "off");
    command.args(["job", "--parent", &std::process::id().to_string(), verb]);
    command.args(["--threads", &rayon::current_num_threads().to_string()]);
    command.args(["--progress", "json", "--json"]);
    Ok(command)
}

/// Options of a command that computes with the foundation as it is served.
pub(super) fn weights(setup: &Setup) -> [String; 4] {
    let dtype = setup.dtype.to_string();
    ["--device".to_owned(), device(setup), "--dtype".to_owned(), dtype]
}

/// `customize` for a job, to be run in its folder.
pub(super) fn customize(
    setup: &Setup,
    spec: &JobSpec,
    folder: &Folder,
    rows: &str,
    saving: Saving,
    steps: Option<Steps>,
) -> io::Result<Command> {
    let mut command = job("customize")?;
    command.current_dir(folder.path()).env("TMPDIR", folder.scratch());
    command.args(["--no-controls", "--out", OUT]);
    command.arg("--foundation").arg(&setup.foundation).args(["--app", &format!("{APP}={rows}")]);
    command.args(weights(setup));
    let default = TuneOptions::default();
    let rate = spec.learning_rate_multiplier.map(|factor| factor * default.lr);
    let given = [
        ("--seed", spec.seed.map(|seed| seed.to_string())),
        ("--batch", spec.batch_size.map(|rows| rows.to_string())),
        ("--learning-rate", rate.map(|rate| rate.to_string())),
        ("--budget", spec.budget.map(|share| share.to_string())),
    ];
    for (option, value) in given {
        command.args(value.into_iter().flat_map(|value| [option.to_owned(), value]));
    }
    if saving != Saving::None {
        command.arg("--recompute");
    }
    if saving == Saving::OneRow {
        command.args(["--accumulate", &batch(spec).to_string()]);
    }
    command.args(steps.into_iter().flat_map(Steps::args));
    Ok(command)
}

/// Rows of an optimizer step.
fn batch(spec: &JobSpec) -> u64 {
    spec.batch_size.map_or(TuneOptions::default().batch as u64, u64::from)
}

fn device(setup: &Setup) -> String {
    use clap::ValueEnum;
    let value = setup.device.device.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(n_epochs: Option<u32>, batch_size: Option<u32>, rows: u64) -> Option<u64> {
        let spec = JobSpec { n_epochs, batch_size, ..JobSpec::new("model", "file") };
        Steps::of(&spec, rows).expect("few enough").map(|Steps(steps)| steps)
    }

    #[test]
    fn more_steps_than_a_job_may_have_are_refused_with_the_numbers() {
        assert_eq!(steps(Some(50), Some(1), 2000), Some(MAX_STEPS));
        let spec =
            JobSpec { n_epochs: Some(50), batch_size: Some(1), ..JobSpec::new("model", "file") };
        let error = Steps::of(&spec, 2001).expect_err("too many");
        assert_eq!(
            error.to_string(),
            "n_epochs is 50, which is 100050 steps with 2001 training rows and batches of 1, but a job may have 100000"
        );
        assert!(Steps::of(&spec, u64::MAX).is_err());
    }

    #[test]
    fn epochs_are_passes_over_the_training_rows() {
        assert_eq!(steps(None, Some(4), 32), None);
        assert_eq!(steps(Some(1), Some(4), 32), Some(8));
        assert_eq!(steps(Some(3), None, 33), Some(7));
        assert_eq!(steps(Some(1), Some(1024), 3), Some(1));
    }

    #[test]
    fn short_runs_warm_up_and_are_validated_in_proportion() {
        assert_eq!(Steps(8).args().join(" "), "--steps 8 --warmup 1 --validate-every 2");
        assert_eq!(Steps(1).args().join(" "), "--steps 1 --warmup 1 --validate-every 1");
        assert_eq!(Steps(1000).args().join(" "), "--steps 1000 --warmup 20 --validate-every 50");
    }
}
