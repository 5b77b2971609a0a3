//! `litemoe`: the command line from a foundation and an app's rows to an adapter mounted on the foundation.

mod args;
mod artefact;
mod chat;
mod commands;
mod customize;
mod disk;
mod dry_run;
mod escape;
mod events;
mod fingerprints;
mod forecast;
mod gguf;
mod hub;
mod input;
mod input_files;
mod jobs;
mod log;
mod memory;
mod model;
mod output;
mod parent;
mod progress;
mod row_check;
mod signals;
mod splits;
mod stamp;
mod version;
mod work;
mod written_dir;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::events::Source;
use crate::log::LogFormat;
use crate::progress::ProgressMode;

/// Customize one mixture-of-experts (MoE) language model for many apps: score its experts on an app's data, extract a
/// small proxy, tune a LoRA adapter on the proxy, and mount the adapter on the unchanged foundation.
#[derive(Debug, Parser)]
#[command(name = "litemoe", version, long_version = version::long(), propagate_version = true, after_help = EXIT_CODES)]
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
    /// Log more on standard error: files, models, fingerprints, validations and tried mountings; twice: every step too.
    /// LITEMOE_LOG or RUST_LOG, where set, decide instead.
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Progress on standard error.
    #[arg(long, global = true, value_name = "FORM", value_enum, default_value_t)]
    progress: ProgressMode,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong arguments.";

fn main() -> ExitCode {
    litemoe_files::share_heaps();
    litemoe_files::keep_freed_memory();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let format = cli.command.log_format();
    let _log = log::begin(cli.verbose, cli.quiet, format);
    if format == LogFormat::Json {
        events::turn_on();
    }
    events::set_source(match &cli.command {
        Command::Stage(stage) => stage.source(),
        _ => Source { app: None, stage: matches.subcommand_name().unwrap_or_default().to_owned() },
    });
    if cli.verify {
        fingerprints::verify();
    }
    if cli.quiet {
        output::be_quiet();
    } else {
        progress::set_mode(cli.progress, cli.verbose > 0);
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
