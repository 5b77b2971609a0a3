mod adamw;
mod data;
mod gradients;
mod options;
mod order;
mod run;
mod state;
mod tuned;

pub use data::TuneData;
pub use gradients::{Gradient, Gradients, MicroBatch, gradients};
pub use options::TuneOptions;
pub use run::{Checkpoint, StepReport, TuneObserver, tune};
pub use state::check_checkpoint;
pub use tuned::Tuned;
