#![doc = include_str!("../README.md")]

mod batch;
mod bootstrap;
mod error;
mod evaluate;
mod fresh;
mod guard;
mod mount;
pub mod peft;
mod record;
mod routing;
mod tensors;
mod transfer;
mod tune;

pub use bootstrap::{mean_95, share_95};
pub use error::{AdapterError, RowProblem};
pub use evaluate::{BATCH_TOKENS, Evaluation, RowEvaluation, evaluate, evaluate_rows};
pub use fresh::{ATTENTION, EXPERTS, LoraOptions, fresh};
pub use guard::{
    Guard, GuardOptions, Measure, MountChoice, PENALTIES, SCALES, Tried, choose_mount,
};
pub use mount::{Effect, LoadedAdapter, check_fit, check_save, is_own, load, mount, probe, save};
pub use record::{AdapterRecord, MountRecord, RECORD_FILE, RECORD_VERSION, SiteMap, TuneMetrics};
pub use routing::{KeptError, KeptExperts, LayerKeptExperts, MountRouting};
pub use transfer::{load_with_plan, to_foundation};
pub use tune::{
    Checkpoint, Gradient, Gradients, MicroBatch, StepReport, TuneData, TuneObserver, TuneOptions,
    Tuned, gradients, is_checkpoint, tune,
};
