use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use litemoe_core::{Criterion, ExpertScores, LayerId, Privacy, SimilarityKind};
use serde::Serialize;

use super::canvas::Canvas;
use super::print::{aligned, field, table};
use super::shares::Shares;
use super::view::View;
use crate::output;

/// Report on `scores.json`.
#[derive(Serialize)]
pub(super) struct ScoresView {
    kind: &'static str,
    model: String,
    family: String,
    fingerprint: String,
    program: String,
    origin: String,
    rows: u64,
    /// `None` for private scores.
    tokens: Option<u64>,
    shards: usize,
    input_sha256: String,
    similarities: Vec<SimilarityKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privacy: Option<Privacy>,
    /// Effective number of experts of each layer, by criterion.
    effective: BTreeMap<Criterion, BTreeMap<LayerId, f64>>,
    /// Criterion of `layers`.
    score: Criterion,
    layers: BTreeMap<LayerId, LayerView>,
}

#[derive(Serialize)]
struct LayerView {
    n_experts: usize,
    top_k: usize,
    #[serde(flatten)]
    shares: Shares,
}

impl ScoresView {
    pub(super) fn of(scores: &ExpertScores, score: Criterion) -> anyhow::Result<Self> {
        if let Some(privacy) = scores.privacy.filter(|_| !scores.has(score)) {
            bail!("the scores have the sums of {} alone, not those of {score}", privacy.criterion);
        }
        let ids = || scores.layers.keys().copied();
        let mut effective = BTreeMap::new();
        for &criterion in Criterion::ALL.iter().filter(|&&criterion| scores.has(criterion)) {
            let layer = |layer| Ok((layer, Shares::of(scores, layer, criterion)?.effective));
            effective.insert(criterion, ids().map(layer).collect::<anyhow::Result<_>>()?);
        }
        let mut layers = BTreeMap::new();
        for (&layer, sums) in &scores.layers {
            let shares = Shares::of(scores, layer, score)?;
            let (n_experts, top_k) = (sums.n_experts(), sums.top_k);
            layers.insert(layer, LayerView { n_experts, top_k, shares });
        }
        let has = |kind: &SimilarityKind| scores.similarity(*kind).is_some();
        Ok(Self {
            kind: "scores",
            model: scores.model.clone(),
            family: scores.family.clone(),
            fingerprint: scores.fingerprint.to_string(),
            program: scores.program.clone(),
            origin: scores.origin.to_string(),
            rows: scores.rows(),
            tokens: scores.privacy.is_none().then(|| scores.tokens()),
            shards: scores.shards.len(),
            input_sha256: scores.input_sha256.clone(),
            similarities: SimilarityKind::ALL.iter().copied().filter(has).collect(),
            privacy: scores.privacy,
            effective,
            score,
            layers,
        })
    }

    /// Effective number of experts by criterion.
    fn criterion_table(&self) -> String {
        let mut table = table(["score", "effective experts", "least", "most"]);
        for (criterion, layers) in &self.effective {
            let n = layers.len().max(1) as f64;
            let mean = layers.values().sum::<f64>() / n;
            let least = layers.values().copied().fold(f64::INFINITY, f64::min);
            let most = layers.values().copied().fold(0.0, f64::max);
            let cells = [mean, least, most].map(|value| format!("{value:.1}"));
            let [mean, least, most] = cells;
            let sizes: BTreeSet<usize> = self.layers.values().map(|view| view.n_experts).collect();
            let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
            table.add_row([
                criterion.name().to_owned(),
                format!("{mean} of {}", sizes.join("/")),
                least,
                most,
            ]);
        }
        aligned(table).to_string()
    }
}

impl View for ScoresView {
    fn print(&self, canvas: Canvas) -> anyhow::Result<()> {
        field("scores", &format!("{} by litemoe {}", self.origin, self.program))?;
        field("model", &format!("{}, {}", self.model, self.family))?;
        field("fingerprint", &self.fingerprint)?;
        let tokens = self.tokens.map_or(String::new(), |tokens| format!("{tokens} tokens, "));
        field("rows", &format!("{} rows, {tokens}{} shards", self.rows, self.shards))?;
        field("input", &self.input_sha256)?;
        let similarities: Vec<_> = self.similarities.iter().map(|kind| kind.name()).collect();
        if !similarities.is_empty() {
            field("similarities", &similarities.join(", "))?;
        }
        if let Some(Privacy { criterion, noise_multiplier }) = self.privacy {
            let released =
                format!("{criterion} released with the noise multiplier {noise_multiplier}");
            field("privacy", &released)?;
        }
        output::line(&self.criterion_table())?;
        output::line(&format!(
            "effective experts of each layer by {}; {}",
            self.score,
            canvas.shades()
        ))?;
        for (layer, view) in &self.layers {
            let Shares { shares, effective, .. } = &view.shares;
            let mean = view.shares.mean();
            let cells: String = shares.iter().map(|&share| canvas.shade(share, mean)).collect();
            let margin = format!("layer {layer}, {effective:.1} of {}", view.n_experts);
            canvas.lines(&margin, &cells).iter().try_for_each(|line| output::line(line))?;
        }
        Ok(())
    }
}
