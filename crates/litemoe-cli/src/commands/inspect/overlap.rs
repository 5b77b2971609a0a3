use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::bail;
use litemoe_core::{Budget, Criterion, ExpertScores, Fingerprint, LayerId, Plan, PlanOptions};
use litemoe_merge::partition;
use serde::Serialize;

use super::canvas::Canvas;
use super::shares::Shares;
use super::view::View;
use crate::output;

/// Overlap of two scores or two plans of one foundation: of the experts that each keeps.
#[derive(Serialize)]
pub(super) struct Overlap {
    kind: &'static str,
    /// What is compared.
    of: &'static str,
    first: PathBuf,
    second: PathBuf,
    fingerprint: String,
    /// Criterion and budget of two scores.
    score: Option<Criterion>,
    budget: Option<Budget>,
    /// Jaccard index of the kept experts of all layers.
    jaccard: f64,
    /// Mean cosine similarity of the layers' scores.
    cosine: Option<f64>,
    layers: BTreeMap<LayerId, LayerOverlap>,
}

#[derive(Debug, PartialEq, Serialize)]
struct LayerOverlap {
    n_experts: usize,
    both: Vec<usize>,
    first_only: Vec<usize>,
    second_only: Vec<usize>,
    /// Jaccard index: experts that both keep, among those that either keeps.
    jaccard: f64,
    /// Cosine similarity of two layers of scores.
    cosine: Option<f64>,
}

impl Overlap {
    /// Overlap of the highest-scored experts, as many in each layer as a share of all experts allows.
    pub(super) fn of_scores(
        [first, second]: [&ExpertScores; 2],
        paths: [&Path; 2],
        score: Criterion,
        budget: Option<Budget>,
    ) -> anyhow::Result<Self> {
        let budget = budget.unwrap_or(PlanOptions::default().budget);
        let Budget::Share(share) = budget else {
            bail!(
                "--budget {budget}: scores do not say how many bytes an expert has; give a share, such as 0.33"
            );
        };
        let sizes = |scores: &ExpertScores| {
            scores.layers.iter().map(|(&id, sums)| (id, sums.n_experts())).collect()
        };
        let sizes: [BTreeMap<LayerId, usize>; 2] = [sizes(first), sizes(second)];
        expect_same([&first.fingerprint, &second.fingerprint], &sizes, paths)?;
        let kept = n_kept(share, &sizes[0].values().copied().collect::<Vec<_>>());
        if kept == 0 {
            bail!("--budget {budget} keeps no expert");
        }
        let mut layers = BTreeMap::new();
        for (&layer, &n_experts) in &sizes[0] {
            let [one, other] = [first, second].map(|scores| Shares::of(scores, layer, score));
            let (one, other) = (one?.shares, other?.shares);
            let hot = |shares: &[f64]| partition(shares, kept, 1, 0.0).hot.into_iter().collect();
            let cosine = Some(cosine(&one, &other));
            let overlap = LayerOverlap::of(n_experts, &hot(&one), &hot(&other));
            layers.insert(layer, LayerOverlap { cosine, ..overlap });
        }
        let overlap = Self::new("scores", paths, &first.fingerprint, layers);
        Ok(Self { score: Some(score), budget: Some(budget), ..overlap })
    }

    /// Overlap of the kept experts.
    pub(super) fn of_plans([first, second]: [&Plan; 2], paths: [&Path; 2]) -> anyhow::Result<Self> {
        let sizes =
            |plan: &Plan| plan.layers.iter().map(|(&id, layer)| (id, layer.n_experts)).collect();
        let sizes = [sizes(first), sizes(second)];
        expect_same([&first.fingerprint, &second.fingerprint], &sizes, paths)?;
        let layer = |(&id, &n_experts): (&LayerId, &usize)| {
            let kept = |plan: &Plan| plan.layers[&id].centroids().into_iter().collect();
            (id, LayerOverlap::of(n_experts, &kept(first), &kept(second)))
        };
        let layers = sizes[0].iter().map(layer).collect();
        Ok(Self::new("plans", paths, &first.fingerprint, layers))
    }

    fn new(
        of: &'static str,
        paths: [&Path; 2],
        fingerprint: &Fingerprint,
        layers: BTreeMap<LayerId, LayerOverlap>,
    ) -> Self {
        let sum = |count: fn(&LayerOverlap) -> usize| layers.values().map(count).sum();
        let jaccard = ratio(sum(|layer| layer.both.len()), sum(LayerOverlap::n_either));
        let cosines: Vec<f64> = layers.values().filter_map(|layer| layer.cosine).collect();
        let cosine = cosines.iter().sum::<f64>() / cosines.len() as f64;
        let cosine = (!cosines.is_empty()).then_some(cosine);
        let (fingerprint, [first, second]) = (fingerprint.to_string(), paths.map(Path::to_owned));
        let (score, budget) = (None, None);
        Self {
            kind: "overlap",
            of,
            first,
            second,
            fingerprint,
            score,
            budget,
            jaccard,
            cosine,
            layers,
        }
    }
}

impl View for Overlap {
    fn print(&self, canvas: Canvas) -> anyhow::Result<()> {
        let [both, one, other, none] = [('█', '#'), ('▀', 'A'), ('▄', 'B'), ('·', '.')]
            .map(|(block, ascii)| canvas.pick(block, ascii));
        let what = match (self.score, self.budget) {
            (Some(score), Some(budget)) => {
                format!("the experts that a budget of {budget} keeps by {score}")
            }
            _ => "the kept experts".to_owned(),
        };
        output::line(&format!("overlap of {what}"))?;
        output::line(&format!(
            "{both} both, {one} only {}, {other} only {}, {none} neither",
            self.first.display(),
            self.second.display()
        ))?;
        for (layer, overlap) in &self.layers {
            let cell = |expert: usize| match overlap {
                _ if overlap.both.contains(&expert) => both,
                _ if overlap.first_only.contains(&expert) => one,
                _ if overlap.second_only.contains(&expert) => other,
                _ => none,
            };
            let cells: String = (0..overlap.n_experts).map(cell).collect();
            let margin = format!("layer {layer}, {}", figures(overlap.jaccard, overlap.cosine));
            canvas.lines(&margin, &cells).iter().try_for_each(|line| output::line(line))?;
        }
        output::line(&format!("all layers, {}", figures(self.jaccard, self.cosine)))
    }
}

fn figures(jaccard: f64, cosine: Option<f64>) -> String {
    let cosine = cosine.map_or_else(String::new, |cosine| format!(", cos {cosine:.2}"));
    format!("J {jaccard:.2}{cosine}")
}

impl LayerOverlap {
    fn of(n_experts: usize, first: &BTreeSet<usize>, second: &BTreeSet<usize>) -> Self {
        let mut overlap = Self {
            n_experts,
            both: first.intersection(second).copied().collect(),
            first_only: first.difference(second).copied().collect(),
            second_only: second.difference(first).copied().collect(),
            jaccard: 0.0,
            cosine: None,
        };
        overlap.jaccard = ratio(overlap.both.len(), overlap.n_either());
        overlap
    }

    /// Number of experts that either keeps.
    fn n_either(&self) -> usize {
        self.both.len() + self.first_only.len() + self.second_only.len()
    }
}

/// Refuses records of different foundations or layers.
fn expect_same(
    [one, other]: [&Fingerprint; 2],
    [layers, other_layers]: &[BTreeMap<LayerId, usize>; 2],
    [first, second]: [&Path; 2],
) -> anyhow::Result<()> {
    let (first, second) = (first.display(), second.display());
    if one != other {
        bail!(
            "{first} is of the model {one}, but {second} of {other}: only records of one foundation are compared"
        );
    }
    if layers != other_layers {
        bail!(
            "{first} and {second} are of one model, but their layers or numbers of experts differ"
        );
    }
    Ok(())
}

/// Largest number of experts per layer of which all layers together have at most a share of all experts.
fn n_kept(share: f64, sizes: &[usize]) -> usize {
    let total: usize = sizes.iter().sum();
    let allowed = (share * total as f64).floor() as usize;
    let most = sizes.iter().copied().max().unwrap_or(0);
    let fits = |kept: &usize| sizes.iter().map(|size| size.min(kept)).sum::<usize>() <= allowed;
    (0..=most).rev().find(fits).unwrap_or(0)
}

fn cosine(x: &[f64], y: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
    let norms = (dot(x, x) * dot(y, y)).sqrt();
    if norms > 0.0 { dot(x, y) / norms } else { 0.0 }
}

/// The Jaccard index; 1 of two empty sets.
fn ratio(both: usize, either: usize) -> f64 {
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_by_hand() {
        let [first, second] = [[0, 1, 2], [1, 2, 5]].map(BTreeSet::from);
        let found = LayerOverlap::of(6, &first, &second);
        assert_eq!((&found.both[..], found.jaccard), (&[1, 2][..], 0.5));
        assert_eq!((&found.first_only[..], &found.second_only[..]), (&[0][..], &[5][..]));
        assert_eq!(LayerOverlap::of(4, &BTreeSet::new(), &BTreeSet::new()).jaccard, 1.0);
        assert!((cosine(&[3.0, 4.0], &[4.0, 3.0]) - 24.0 / 25.0).abs() < 1e-15);
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
    }

    #[test]
    fn a_share_keeps_as_many_in_every_layer() {
        assert_eq!(n_kept(0.5, &[8, 8]), 4);
        assert_eq!(n_kept(0.49, &[8, 8]), 3);
        // 2 + 4 of 10.
        assert_eq!(n_kept(0.6, &[2, 8]), 4);
        assert_eq!(n_kept(0.1, &[8]), 0);
    }
}
