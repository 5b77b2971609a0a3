use std::path::PathBuf;

use anyhow::Context;
use litemoe_adapter::AdapterRecord;
use litemoe_registry::{Job, JobSpec, Provenance, Registry};
use serde_json::json;

use super::command::{APP, OUT};
use super::folder::Folder;
use crate::customize::RunReport;

/// The adapter that a job made.
#[derive(Debug)]
pub(super) struct Made {
    /// Folder of its files.
    pub(super) dir: PathBuf,
    pub(super) provenance: Provenance,
    /// What it does to the held-out rows, in words.
    pub(super) summary: String,
}

impl Made {
    /// Reads the result of `customize`; `None` if the foundation alone is better than with the adapter.
    pub(super) fn read(
        report: &str,
        registry: &Registry,
        job: &Job,
        spec: &JobSpec,
        folder: &Folder,
    ) -> anyhow::Result<Option<Self>> {
        let report: RunReport =
            serde_json::from_str(report).context("the report of the job is not as expected")?;
        let report = report.apps.into_iter().next().context("the job has no report")?;
        if report.choice.is_none() {
            return Ok(None);
        }
        let dir = folder.path().join(OUT).join(APP).join("mounted");
        let record = AdapterRecord::read(&dir)?.context("the adapter has no record")?;
        let training = registry.file(&job.app, &spec.training_file)?;
        let percent = |share: f64| 100.0 * share;
        let summary = format!(
            "{} held-out rows: {:.1} % exact with the adapter, {:.1} % without; perplexity {:.3}, {:.3} without",
            report.rows,
            percent(report.mounted.accuracy),
            percent(report.foundation.accuracy),
            report.mounted.perplexity,
            report.foundation.perplexity,
        );
        let metrics = json!({
            "job": job.id,
            "rows": report.rows,
            "foundation": report.foundation,
            "mounted": report.mounted,
            "trained_tokens": record.metrics.tokens,
            "step": record.metrics.best_step,
            "valid_loss": record.metrics.validation_loss,
        });
        let provenance = Provenance {
            foundation: report.fingerprint,
            plan: record.plan,
            data: Some(training.sha256.to_string()),
            metrics,
        };
        Ok(Some(Self { dir, provenance, summary }))
    }
}
