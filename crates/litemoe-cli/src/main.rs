//! `litemoe`: the command line from a foundation and an app's rows to an adapter mounted on the foundation.

mod args;
mod artefact;
mod chat;
mod commands;
mod customize;
mod disk;
mod dry_run;
mod fingerprints;
mod forecast;
mod hub;
mod input;
mod log;
mod memory;
mod model;
mod output;
mod progress;
mod row_check;
mod signals;
mod splits;
mod work;
mod written_dir;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::commands::Command;

/// Customize one mixture-of-experts (MoE) language model for many apps: score its experts on an app's data, extract a
/// small proxy, tune a LoRA adapter on the proxy, and mount the adapter on the unchanged foundation.
#[derive(Debug, Parser)]
#[command(name = "litemoe", version, propagate_version = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Recompute fingerprints of models from their files instead of reading them from the cache.
    #[arg(long, global = true)]
    verify: bool,
    /// Number of threads for tensor operations [default: one per core].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print errors and results only: no progress and no notes.
    #[arg(long, short, global = true)]
    quiet: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong arguments.";

fn main() -> ExitCode {
    litemoe_files::share_heaps();
    let cli = Cli::parse();
    let _log = log::begin();
    if cli.verify {
        fingerprints::verify();
    }
    if cli.quiet {
        output::be_quiet();
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Some(threads) = cli.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global()?;
    }
    cli.command.run(Cli::command())
}
