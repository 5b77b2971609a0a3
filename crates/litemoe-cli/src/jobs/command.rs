use std::process::Command;
use std::{env, io};

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

impl Steps {
    /// Steps of the job's epochs; `None` for the default number of steps.
    pub(super) fn of(spec: &JobSpec, training_rows: u64) -> Option<Self> {
        let rows = training_rows * u64::from(spec.n_epochs?);
        Some(Self(rows.div_ceil(batch(spec)).max(1)))
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

/// `customize` for a job, to be run in its folder.
pub(super) fn customize(
    setup: &Setup,
    spec: &JobSpec,
    folder: &Folder,
    rows: &str,
    saving: Saving,
    steps: Option<Steps>,
) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.current_dir(folder.path()).env("TMPDIR", folder.scratch()).env("LITEMOE_LOG", "off");
    command.args(["job", "--parent", &std::process::id().to_string()]);
    if let Some(bytes) = setup.memory {
        command.args(["--memory", &bytes.to_string()]);
    }
    command.args(["--threads", &rayon::current_num_threads().to_string()]);
    command.args(["--progress", "json", "--json", "--no-controls", "--out", OUT]);
    command.arg("--foundation").arg(&setup.foundation).args(["--app", &format!("{APP}={rows}")]);
    command.args(["--device", &device(setup), "--dtype", &setup.weights.dtype.to_string()]);
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
        Steps::of(&spec, rows).map(|Steps(steps)| steps)
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
