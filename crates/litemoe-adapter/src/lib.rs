#![doc = include_str!("../README.md")]

mod batch;
mod confidence_interval;
mod delta_norm;
mod divergence;
mod error;
mod evaluate;
mod guard;
mod init_lora;
mod mount;
pub mod peft;
mod record;
mod routing;
mod tensors;
mod to_foundation;
mod to_proxy;
mod tune;
mod workers;

pub use batch::{LOGITS_PER_CHUNK, RowLimits};
pub use confidence_interval::{mean_95, share_95};
pub use delta_norm::delta_norm;
pub use divergence::{RowDivergence, evaluate_divergence};
pub use error::{AdapterError, RowProblem};
pub use evaluate::{BATCH_TOKENS, Evaluation, RowEvaluation, evaluate, evaluate_rows};
pub use guard::{
    Guard, GuardOptions, Measure, MountChoice, PENALTIES, SCALES, Tried, choose_mount,
};
pub use init_lora::{ATTENTION, EXPERTS, LoraOptions, init_lora, target_sites};
pub use mount::{
    Effect, LoadedAdapter, check_fit, check_save, is_own, load, load_for, mount, probe, save,
    save_uniform,
};
pub use record::{AdapterRecord, MountRecord, RECORD_FILE, RECORD_VERSION, SiteMap, TuneMetrics};
pub use routing::{KeptError, KeptExperts, LayerKeptExperts, MountRouting};
pub use to_foundation::{load_with_plan, to_foundation};
pub use to_proxy::load_for_proxy;
pub use tune::{
    Checkpoint, Gradient, Gradients, MicroBatch, StepReport, TuneData, TuneObserver, TuneOptions,
    Tuned, check_checkpoint, gradients, tune,
};
