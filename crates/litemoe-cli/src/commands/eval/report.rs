use std::collections::BTreeMap;
use std::time::Duration;

use litemoe_adapter::{Evaluation, RowEvaluation};
use litemoe_core::{CacheDtype, WeightDtype};
use litemoe_text::TextScore;
use serde::{Deserialize, Serialize};

use super::divergence::Divergence;
use super::shares::{OfLabel, by_label, macro_averages, share};
use super::test_rows::TestRows;
use crate::memory::Peak;
use crate::output;
use crate::work::Report;

/// Results per row.
pub(super) struct Found<'a> {
    pub(super) rows: &'a TestRows,
    pub(super) scores: Vec<RowEvaluation>,
    /// Greedy answers.
    pub(super) answers: Option<Vec<String>>,
    /// The most probable labels.
    pub(super) choices: Option<Vec<&'a str>>,
    pub(super) divergence: Option<Divergence>,
}

/// Report of `eval`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Evaluated {
    /// Number format of the frozen weights.
    #[serde(default)]
    dtype: WeightDtype,
    /// Number format of keys and values.
    #[serde(default)]
    cache_dtype: CacheDtype,
    pub(crate) accuracy: f64,
    pub(crate) accuracy_95: [f64; 2],
    pub(crate) perplexity: f64,
    #[serde(flatten)]
    text: Option<Text>,
    #[serde(flatten)]
    choice: Option<Choice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    macro_accuracy: Option<f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    by_label: BTreeMap<String, OfLabel>,
    /// Divergence from the model in another number format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Divergence>,
    pub(crate) rows: u64,
    tokens: u64,
    skipped: usize,
    seconds: f64,
    peak_bytes: Peak,
}

/// Text metrics of greedy answers.
#[derive(Serialize, Deserialize)]
struct Text {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    any_reference: Option<f64>,
    first_word: f64,
    last_word: f64,
    chrf: f64,
}

/// Metrics of the choices among labels.
#[derive(Serialize, Deserialize)]
struct Choice {
    label_accuracy: f64,
    label_accuracy_95: [f64; 2],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    macro_label_accuracy: Option<f64>,
}

impl Evaluated {
    pub(super) fn new(
        (dtype, cache_dtype): (WeightDtype, CacheDtype),
        found: Found<'_>,
        elapsed: Duration,
        peak_bytes: Peak,
    ) -> Self {
        let sum: Evaluation = found.scores.iter().sum();
        let exact: Vec<bool> = found.scores.iter().map(|score| score.exact).collect();
        let chosen = found.right_choices();
        let by_label = by_label(&found.rows.rows, &exact, chosen.as_deref());
        let (macro_accuracy, macro_label_accuracy) = macro_averages(&by_label);
        let choice = |right: Vec<bool>| {
            let (label_accuracy, label_accuracy_95) = share(&right);
            Choice { label_accuracy, label_accuracy_95, macro_label_accuracy }
        };
        Self {
            dtype,
            cache_dtype,
            accuracy: sum.accuracy(),
            accuracy_95: share(&exact).1,
            perplexity: sum.perplexity(),
            text: found.text(),
            choice: chosen.map(choice),
            macro_accuracy,
            by_label,
            reference: found.divergence,
            rows: sum.rows,
            tokens: sum.tokens,
            skipped: found.rows.skipped,
            seconds: elapsed.as_secs_f64(),
            peak_bytes,
        }
    }
}

impl Report for Evaluated {
    fn print(&self) -> anyhow::Result<()> {
        let Self { perplexity, rows, tokens, .. } = self;
        let accuracy = with_interval(self.accuracy, self.accuracy_95);
        output::line(&format!(
            "accuracy {accuracy}, perplexity {perplexity:.3} ({rows} rows, {tokens} tokens)"
        ))?;
        if let Some(choice) = &self.choice {
            let share = with_interval(choice.label_accuracy, choice.label_accuracy_95);
            output::line(&format!("label accuracy {share}"))?;
        }
        if let Some(mean) = self.macro_accuracy {
            let macro_label = self.choice.as_ref().and_then(|choice| choice.macro_label_accuracy);
            let chosen = macro_label.map(|mean| format!(", label accuracy {}", percent(mean)));
            let (n_labels, chosen) = (self.by_label.len(), chosen.unwrap_or_default());
            let mean = percent(mean);
            output::line(&format!("mean over {n_labels} labels: accuracy {mean}{chosen}"))?;
        }
        if let Some(text) = &self.text {
            text.print()?;
        }
        match &self.reference {
            Some(reference) => reference.print(),
            None => Ok(()),
        }
    }
}

impl Text {
    fn print(&self) -> anyhow::Result<()> {
        let any = self.any_reference.map(|any| format!("any reference {}, ", percent(any)));
        let [first, last] = [self.first_word, self.last_word].map(percent);
        output::line(&format!(
            "text: {}first word {first}, last word {last}, chrF {:.1}",
            any.unwrap_or_default(),
            100.0 * self.chrf
        ))
    }
}

impl Found<'_> {
    fn text(&self) -> Option<Text> {
        let mut sum = TextScore::default();
        for (row, answer) in self.rows.rows.iter().zip(self.answers.as_ref()?) {
            sum.add(row, answer);
        }
        Some(Text {
            any_reference: sum.any_reference(),
            first_word: sum.first_word(),
            last_word: sum.last_word(),
            chrf: sum.chrf.score(),
        })
    }

    /// Whether each choice is its row's completion.
    fn right_choices(&self) -> Option<Vec<bool>> {
        let rows = self.rows.rows.iter().zip(self.choices.as_ref()?);
        Some(
            rows.map(|(row, choice)| {
                row.completion().is_some_and(|text| text.trim() == choice.trim())
            })
            .collect(),
        )
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn with_interval(share: f64, [low, high]: [f64; 2]) -> String {
    format!("{} (95 %: {:.1} to {})", percent(share), 100.0 * low, percent(high))
}
