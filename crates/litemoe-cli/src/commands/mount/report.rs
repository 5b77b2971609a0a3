use std::path::PathBuf;

use litemoe_adapter::{MountChoice, Tried};
use litemoe_core::WeightDtype;
use serde::{Deserialize, Serialize};

use crate::args::mount::By;
use crate::memory::Peak;
use crate::output;
use crate::work::Report;

/// Report of `mount`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Mounted {
    pub(crate) mounted: bool,
    /// Output directory.
    pub(crate) adapter: Option<PathBuf>,
    /// Bytes of the adapter's files.
    pub(crate) adapter_bytes: u64,
    /// Bytes of the LoRA matrices in memory.
    pub(crate) memory_bytes: u64,
    /// Routing and scale; `None` if it is not mounted.
    pub(crate) choice: Option<MountChoice>,
    /// Number format of the foundation's weights.
    #[serde(default)]
    pub(crate) dtype: WeightDtype,
    /// Whether it is a plain PEFT directory.
    pub(crate) portable: bool,
    /// Metric of the choice.
    pub(crate) by: By,
    /// Evaluated choices; the first is the foundation alone.
    pub(crate) tried: Vec<Measured>,
    pub(crate) seconds: f64,
    pub(crate) peak_bytes: Peak,
}

/// Evaluation of one choice.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Routing and scale; `None` for the foundation alone.
    pub(crate) choice: Option<MountChoice>,
    /// Mean negative log-likelihood per completion token, in nats.
    pub(crate) loss: f64,
    pub(crate) accuracy: f64,
}

impl Measured {
    pub(crate) fn of(Tried { choice, evaluation }: &Tried) -> Self {
        Self { choice: *choice, loss: evaluation.loss(), accuracy: evaluation.accuracy() }
    }
}

impl Mounted {
    /// Warns if the choice is worse than the foundation alone, or if `--portable` is worse than another routing.
    fn warn(&self) {
        let Some(chosen) = self.tried.iter().find(|tried| tried.choice == self.choice) else {
            return;
        };
        let is_better = |other: &Measured| match self.by {
            By::Loss => other.loss < chosen.loss,
            By::Accuracy => (other.accuracy, -other.loss) > (chosen.accuracy, -chosen.loss),
        };
        if self.tried.first().is_some_and(is_better) {
            output::note("warning: on these rows the foundation alone is better");
        }
        let least = self.tried.iter().min_by(|x, y| x.loss.total_cmp(&y.loss));
        if let Some(least) = least.filter(|least| self.portable && is_better(least)) {
            output::note(&format!(
                "what --portable costs here: loss {:.4} and accuracy {:.1} % instead of {:.4} and {:.1} % ({})",
                chosen.loss,
                100.0 * chosen.accuracy,
                least.loss,
                100.0 * least.accuracy,
                describe(least.choice)
            ));
        }
    }
}

impl Report for Mounted {
    fn print(&self) -> anyhow::Result<()> {
        for measured in &self.tried {
            let chosen = if measured.choice == self.choice { "  <- chosen" } else { "" };
            output::line(&format!(
                "{:<28} validation loss {:.4}, accuracy {:5.1} %{chosen}",
                describe(measured.choice),
                measured.loss,
                100.0 * measured.accuracy
            ))?;
        }
        self.warn();
        output::line(&match (&self.adapter, self.choice) {
            (Some(path), choice) => {
                let bytes = output::bytes(self.adapter_bytes);
                format!("{} written ({bytes}): mounted with {}", path.display(), describe(choice))
            }
            (None, _) if self.tried.is_empty() => "not mounted, as asked".to_owned(),
            (None, _) => "not mounted: of what was tried the foundation alone is best".to_owned(),
        })
    }
}

/// Text form of a choice.
fn describe(choice: Option<MountChoice>) -> String {
    match choice {
        Some(MountChoice { routing, scale }) => format!("routing {routing}, scale {scale}"),
        None => "the foundation alone".to_owned(),
    }
}
