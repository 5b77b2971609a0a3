//! `cargo xtask`: project tasks other than `cargo build` and `cargo test`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program

mod cargo;
mod eval;
mod findings;
mod fixtures;
mod peers;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Write the generated fixtures and the hashes of all fixtures.
    Fixtures {
        /// Compare instead of writing.
        #[arg(long)]
        check: bool,
    },
    /// Evaluate the program and write the results into the README.
    Eval {
        #[command(subcommand)]
        eval: Eval,
    },
    /// Measure the speed of litemoe and of other programs on one model, in turn, and print a table.
    Peers(Box<peers::PeersArgs>),
    /// Check the crate graph, the libraries' dependencies, and the required files of every crate.
    Tidy,
}

#[derive(Subcommand)]
enum Eval {
    /// Run the loop on the embedded app and on others, record it in results/loop.json, write the README's table.
    Loop(eval::LoopArgs),
    /// Run the loop with one choice changed at a time, record it in results/choices.json, write the README's table.
    Choices(eval::ChoicesArgs),
    /// What noise on the scores costs.
    Noise(eval::NoiseArgs),
    /// Run the README's first command, record what it prints in results/customize.txt, write it into the README.
    Output(eval::OutputArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().chore, &workspace_root()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore, root: &Path) -> Result<()> {
    match chore {
        Chore::Eval { eval: Eval::Loop(args) } => eval::run(&args, root),
        Chore::Eval { eval: Eval::Choices(args) } => eval::run_choices(&args, root),
        Chore::Eval { eval: Eval::Noise(args) } => eval::run_noise(&args, root),
        Chore::Eval { eval: Eval::Output(args) } => eval::run_output(&args, root),
        Chore::Peers(args) => peers::run(&args, root),
        Chore::Fixtures { check: false } => fixtures::write(root),
        Chore::Fixtures { check: true } => fixtures::check(root)?.into_result(),
        Chore::Tidy => tidy::check(root)?.into_result(),
    }
}

/// The folder of the workspace this program was compiled in.
fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask is a folder of the workspace").to_owned()
}
