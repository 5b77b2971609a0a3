use serde::Serialize;

use super::canvas::Canvas;
use crate::output;

/// Report of `inspect`.
pub(super) trait View: Serialize {
    /// Prints the report as text.
    fn print(&self, canvas: Canvas) -> anyhow::Result<()>;

    /// Prints the report, as JSON or as text.
    fn show(&self, json: bool, canvas: Canvas) -> anyhow::Result<()>
    where
        Self: Sized,
    {
        if json { output::json(self) } else { self.print(canvas) }
    }
}
