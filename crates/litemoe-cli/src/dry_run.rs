use std::path::PathBuf;

use litemoe_core::Sequence;
use serde::Serialize;

use crate::forecast::{Lengths, available_bytes};
use crate::output;

/// What a single command would do: `--dry-run` of `score`, `extract` and `tune`.
#[derive(Debug, Serialize)]
pub(crate) struct DryRun {
    rows: usize,
    tokens: u64,
    /// Rows that are too long.
    skipped: usize,
    /// Estimated peak of anonymous memory.
    memory_bytes: u64,
    /// Memory that is available now; `None` where the system does not report it.
    available_bytes: Option<u64>,
    /// Estimated time of the models' passes.
    seconds: f64,
    outputs: Vec<PathBuf>,
    /// Bytes on the disk at once, and free there now, if the output is large.
    #[serde(flatten)]
    disk: Option<Disk>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Disk {
    written_bytes: u64,
    free_bytes: u64,
}

impl DryRun {
    pub(crate) fn new(
        (rows, skipped): (&[Sequence], usize),
        memory_bytes: u64,
        seconds: f64,
        outputs: Vec<PathBuf>,
    ) -> Self {
        Self {
            rows: rows.len(),
            tokens: Lengths::of(rows).tokens() as u64,
            skipped,
            memory_bytes,
            available_bytes: available_bytes(),
            seconds,
            outputs,
            disk: None,
        }
    }

    /// The same with what it would write, and what is free there.
    pub(crate) fn on_disk(self, written_bytes: u64, free_bytes: u64) -> Self {
        Self { disk: Some(Disk { written_bytes, free_bytes }), ..self }
    }

    /// Prints it, as JSON or as text.
    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        let Self { rows, tokens, skipped, seconds, .. } = self;
        let outputs: Vec<_> = self.outputs.iter().map(|path| path.display().to_string()).collect();
        let available = self.available_bytes.map(output::bytes);
        if *rows > 0 {
            output::line(&format!(
                "{rows} rows, {tokens} tokens ({skipped} rows are too long and skipped)"
            ))?;
        }
        let time =
            if *rows > 0 { format!(" and {}", output::seconds(*seconds)) } else { String::new() };
        let disk = self.disk.map(|Disk { written_bytes, free_bytes }| {
            let [written, free] = [written_bytes, free_bytes].map(output::bytes);
            format!(", {written} ({free} free)")
        });
        output::line(&format!(
            "about {} of memory{}{time} (estimates)\nwould write {}{}; nothing was written",
            output::bytes(self.memory_bytes),
            available.map_or_else(String::new, |it| format!(" ({it} available)")),
            outputs.join(", "),
            disk.unwrap_or_default(),
        ))
    }
}
