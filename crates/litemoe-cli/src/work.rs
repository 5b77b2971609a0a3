//! Commands as typed work: arguments in, report out, both serializable as JSON.

use std::path::Path;

use anyhow::Context;
use clap::{Args, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output;

/// Command with a report; `customize` runs it in a child process.
pub(crate) trait Work: Serialize + DeserializeOwned {
    /// Report of the command.
    type Report: Report;

    /// Runs the command.
    fn execute(&self) -> anyhow::Result<Self::Report>;

    /// The same work, resuming from the checkpoint of an interrupted run if the command has checkpoints.
    #[must_use]
    fn resumed(self) -> Self
    where
        Self: Sized,
    {
        self
    }
}

/// Report of a command.
pub(crate) trait Report: Serialize + DeserializeOwned {
    /// Prints the report as text.
    ///
    /// # Errors
    /// When standard output cannot be written.
    fn print(&self) -> anyhow::Result<()>;
}

/// Runs the work and prints its report, as JSON or as text.
pub(crate) fn run(work: &impl Work, json: bool) -> anyhow::Result<()> {
    let report = work.execute()?;
    if json {
        return output::json(&report);
    }
    report.print()
}

/// A command's arguments with the defaults of those that are not given: options with their values, then positional ones.
pub(crate) fn with_defaults<A: Args>(options: &[&Path], positional: &[&Path]) -> anyhow::Result<A> {
    let command = A::augment_args(Command::new("stage").no_binary_name(true));
    let given = [options, &[Path::new("--")], positional].concat();
    let matches = command.try_get_matches_from(given);
    let matches = matches.context("a stage's arguments are incomplete")?;
    Ok(A::from_arg_matches(&matches)?)
}
