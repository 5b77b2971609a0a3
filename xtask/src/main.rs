//! `cargo xtask`: the project's chores that are neither `cargo build` nor `cargo test`.

mod findings;
mod fixtures;

use std::path::{Path, PathBuf};

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
}

fn main() -> Result<()> {
    let root = workspace_root();
    match Cli::parse().chore {
        Chore::Fixtures { check: false } => fixtures::write(&root),
        Chore::Fixtures { check: true } => fixtures::check(&root)?.into_result(),
    }
}

/// The folder of the workspace this program was compiled in.
fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask is a folder of the workspace").to_owned()
}
