use litemoe_registry::{Job, Level, Worker};
use serde_json::{Value, json};

use super::hidden::Hidden;
use super::line::Line;

/// Maximum events of a job, apart from its last ones.
const MAX_EVENTS: u64 = 400;

/// Maximum validations among them.
const MAX_VALIDATIONS: u64 = 100;

/// Writes the events of a running job.
pub(super) struct Events<'a> {
    worker: &'a Worker,
    job: &'a Job,
    hidden: &'a Hidden,
    /// Number of the last event.
    last: u64,
    /// Step of the last validation that is an event.
    validated: u64,
}

impl<'a> Events<'a> {
    pub(super) fn new(worker: &'a Worker, job: &'a Job, hidden: &'a Hidden) -> Self {
        Self { worker, job, hidden, last: 0, validated: 0 }
    }

    /// Adds an event. One that cannot be added is in the log alone.
    pub(super) fn add(&mut self, level: Level, message: &str, data: Value) {
        match self.worker.add_event(self.job, level, message, data) {
            Ok(number) => self.last = number,
            Err(error) => tracing::warn!(job = self.job.id, %error, "an event is lost"),
        }
    }

    /// Adds the event of a line, if it is one.
    pub(super) fn add_line(&mut self, line: &Line) {
        if self.last >= MAX_EVENTS {
            return;
        }
        match line {
            Line::Note { message } => self.note(message),
            Line::StageBegin { stage, about } => {
                self.add(Level::Info, about, json!({ "stage": stage }));
            }
            Line::StageEnd { stage, skipped: false, elapsed } => {
                let message = format!("the stage {stage} is done");
                self.add(Level::Info, &message, json!({ "stage": stage, "seconds": elapsed }));
            }
            Line::StageEnd { stage, skipped: true, .. } => {
                let message = format!("the stage {stage} was done before");
                self.add(Level::Info, &message, json!({ "stage": stage }));
            }
            &Line::Validation { done, total, loss, validation_loss, validation_accuracy } => {
                if done < total && done < self.validated + total / MAX_VALIDATIONS {
                    return;
                }
                self.validated = done;
                let message = format!("step {done} of {total}");
                let data = json!({
                    "step": done,
                    "total_steps": total,
                    "train_loss": loss,
                    "valid_loss": validation_loss,
                    "valid_accuracy": validation_accuracy,
                });
                self.add(Level::Info, &message, data);
            }
            Line::Error { .. } | Line::Other => {}
        }
    }

    fn note(&mut self, message: &str) {
        let warning = message.strip_prefix("warning: ");
        let level = if warning.is_some() { Level::Warn } else { Level::Info };
        let message = self.hidden.plain(warning.unwrap_or(message));
        if !message.is_empty() {
            self.add(level, &message, Value::Null);
        }
    }
}
