//! `litemoe`: the command line from a foundation and an app's rows to an adapter mounted on the foundation.

mod args;
mod artefact;
mod chat;
mod commands;
mod customize;
mod fingerprints;
mod hub;
mod input;
mod memory;
mod model;
mod output;
mod progress;
mod row_check;
mod splits;
mod work;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;

/// Customize one mixture-of-experts (MoE) language model for many apps: score its experts on an app's data, extract a
/// small proxy, tune a LoRA adapter on the proxy, and mount the adapter on the unchanged foundation.
#[derive(Debug, Parser)]
#[command(name = "litemoe", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Recompute fingerprints of models from their files instead of reading them from the cache.
    #[arg(long, global = true)]
    verify: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("LITEMOE_LOG"))
        .with_writer(std::io::stderr)
        .init();
    if cli.verify {
        fingerprints::verify();
    }
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
