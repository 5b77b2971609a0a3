//! Commands as typed work: arguments in, a report out, both of which can travel as JSON.

use std::ffi::OsStr;

use anyhow::Context;
use clap::{Args, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output;

/// A command whose result others use: `customize` runs it in a process of its own.
pub(crate) trait Work: Serialize + DeserializeOwned {
    /// What it returns.
    type Report: Report;

    /// Does it.
    fn execute(&self) -> anyhow::Result<Self::Report>;

    /// The same work, going on from the checkpoint of an interrupted run where there can be one.
    #[must_use]
    fn resumed(self) -> Self
    where
        Self: Sized,
    {
        self
    }
}

/// What a command reports.
pub(crate) trait Report: Serialize + DeserializeOwned {
    /// Prints it for people.
    fn print(&self);
}

/// Does the work and prints its report, as JSON or for people.
pub(crate) fn run(work: &impl Work, json: bool) -> anyhow::Result<()> {
    let report = work.execute()?;
    if json {
        return output::json(&report);
    }
    report.print();
    Ok(())
}

/// A command's arguments with the defaults of those that are not given.
pub(crate) fn with_defaults<A: Args, T: AsRef<OsStr> + ?Sized>(given: &[&T]) -> anyhow::Result<A> {
    let command = A::augment_args(Command::new("stage").no_binary_name(true));
    let matches = command.try_get_matches_from(given.iter().map(AsRef::as_ref));
    let matches = matches.context("a stage's arguments are incomplete")?;
    Ok(A::from_arg_matches(&matches)?)
}
