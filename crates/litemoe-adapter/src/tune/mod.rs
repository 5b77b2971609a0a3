mod adamw;
mod gradients;
mod options;
mod order;
mod run;
mod state;

pub use gradients::{Gradient, Gradients, Micro, gradients};
pub use options::TuneOptions;
pub use run::{Checkpoint, StepReport, TuneData, Tuned, Watcher, tune};
pub use state::is_checkpoint;
