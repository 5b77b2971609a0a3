//! Commands, one module each.

mod app;
mod bench;
mod completions;
mod data;
pub(crate) mod eval;
mod export;
pub(crate) mod extract;
mod fuse;
mod generate;
mod hot;
mod inspect;
mod logits;
mod man;
pub(crate) mod mount;
pub(crate) mod plan;
mod pull;
mod quantize;
mod registry;
pub(crate) mod score;
mod serve;
pub(crate) mod tune;

use clap::Subcommand;

use crate::chat::ChatArgs;
use crate::customize::{CustomizeArgs, StageArgs};
use crate::jobs::JobArgs;
use crate::log::LogFormat;

/// Commands of `litemoe`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Customize(Box<CustomizeArgs>),
    Data(data::DataArgs),
    Pull(pull::PullArgs),
    Score(Box<score::ScoreCommand>),
    Plan(plan::PlanCommand),
    Extract(extract::ExtractArgs),
    Tune(tune::TuneCommand),
    Mount(mount::MountArgs),
    Fuse(fuse::FuseArgs),
    Quantize(quantize::QuantizeArgs),
    Export(export::ExportArgs),
    Eval(eval::EvalArgs),
    Generate(generate::GenerateArgs),
    Chat(ChatArgs),
    Serve(serve::ServeArgs),
    App(app::AppArgs),
    Registry(registry::RegistryCommandArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    Logits(logits::LogitsArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(hide = true)]
    Stage(StageArgs),
    #[command(hide = true)]
    Job(Box<JobArgs>),
}

impl Command {
    /// Form of the log.
    pub(crate) fn log_format(&self) -> LogFormat {
        match self {
            Self::Serve(args) => args.log_format,
            _ => LogFormat::default(),
        }
    }

    /// Runs the command; `program` describes the whole command line.
    pub(crate) fn run(self, program: clap::Command) -> anyhow::Result<()> {
        match self {
            Self::Customize(args) => args.run(),
            Self::Data(args) => args.run(),
            Self::Pull(args) => args.run(),
            Self::Score(args) => args.run(),
            Self::Plan(args) => args.run(),
            Self::Extract(args) => args.run(),
            Self::Tune(args) => args.run(),
            Self::Mount(args) => args.run(),
            Self::Fuse(args) => args.run(),
            Self::Quantize(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::Eval(args) => args.run(),
            Self::Generate(args) => args.run(),
            Self::Chat(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::App(args) => args.run(),
            Self::Registry(args) => args.run(),
            Self::Inspect(args) => args.run(),
            Self::Bench(args) => args.run(),
            Self::Logits(args) => args.run(),
            Self::Completions(args) => args.run(program),
            Self::Man(args) => args.run(program),
            Self::Stage(args) => args.run(),
            Self::Job(args) => args.run(),
        }
    }
}
