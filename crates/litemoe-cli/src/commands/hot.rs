use std::collections::BTreeSet;

use anyhow::{Context, bail};
use litemoe_core::{Criterion, ExpertId, ExpertScores, LinearSite, Plan};

/// Hot-expert selection (hot-expert LoRA, arXiv 2603.24044): keeps the sites of the highest-scoring `share` of each
/// layer's experts, and all sites outside experts. With a plan the sites are a proxy's: its experts are numbered as the
/// plan's groups, and only kept experts are ranked.
pub(crate) fn hottest(
    sites: &[LinearSite],
    scores: &ExpertScores,
    plan: Option<&Plan>,
    share: f64,
) -> anyhow::Result<Vec<LinearSite>> {
    let score = plan.map_or(Criterion::Task, |plan| plan.options.score);
    let layers = sites.iter().filter_map(|site| Some(site.role.expert()?.0.layer));
    if let Some(layer) = layers.into_iter().find(|layer| !scores.layers.contains_key(layer)) {
        bail!("the scores say nothing of layer {layer}");
    }
    if let Some(privacy) = scores.privacy.filter(|privacy| !privacy.releases(score)) {
        bail!("the scores have the sums of {} alone, not those of {score}", privacy.criterion);
    }
    let mut hot: BTreeSet<ExpertId> = BTreeSet::new();
    for (&layer, sums) in &scores.layers {
        let scores = score.values(layer, sums, scores.seed);
        let of_layer =
            plan.map(|plan| plan.layers.get(&layer).context("the plan is of other layers"));
        let experts = match of_layer.transpose()? {
            Some(layer) => layer.centroids(),
            None => (0..scores.len()).collect(),
        };
        if let Some(stray) = experts.iter().find(|&&expert| expert >= scores.len()) {
            bail!(
                "layer {layer}: the plan keeps expert {stray}, but the scores are of {}",
                scores.len()
            );
        }
        let mut order: Vec<usize> = (0..experts.len()).collect();
        order.sort_by(|&x, &y| scores[experts[y]].total_cmp(&scores[experts[x]]));
        let n_hot = ((share * experts.len() as f64 - 1e-9).ceil() as usize).max(1);
        hot.extend(order.into_iter().take(n_hot).map(|expert| layer.expert(expert)));
    }
    let is_wanted =
        |site: &&LinearSite| site.role.expert().is_none_or(|(expert, _)| hot.contains(&expert));
    Ok(sites.iter().filter(is_wanted).cloned().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use litemoe_core::{
        ExactSums, ExpertPart, Fingerprint, Group, LayerId, LayerPlan, LayerSums, LinearRole,
        PLAN_VERSION, PlanOptions, SCORES_VERSION, ScoreOrigin, Site,
    };

    use super::*;

    fn scores(values: [f64; 4]) -> ExpertScores {
        let sums = ExactSums::from(values.to_vec());
        let layer = LayerSums {
            tokens: 1,
            top_k: 1,
            count: vec![1; values.len()],
            prob: sums.clone(),
            gate: sums.clone(),
            norm: sums.clone(),
            gate_norm: sums,
            gap: None,
            gated_output: None,
        };
        ExpertScores {
            version: SCORES_VERSION,
            program: String::new(),
            fingerprint: Fingerprint::new("f"),
            model: String::new(),
            family: String::new(),
            origin: ScoreOrigin::Measured,
            shards: Vec::new(),
            input_sha256: String::new(),
            batch: 1,
            batch_tokens: 1,
            seed: 0,
            kappa: 0.2,
            privacy: None,
            layers: BTreeMap::from([(LayerId::decoder(0), layer)]),
        }
    }

    fn sites(n: usize) -> Vec<LinearSite> {
        let site = |role| LinearSite {
            site: Site::new("x"),
            role,
            d_in: 1,
            d_out: 1,
            stack: None,
            parameter: None,
        };
        let expert = |expert| LinearRole::Expert {
            expert: LayerId::decoder(0).expert(expert),
            part: ExpertPart::Up,
        };
        std::iter::once(LinearRole::Attention).chain((0..n).map(expert)).map(site).collect()
    }

    fn experts(sites: &[LinearSite]) -> Vec<usize> {
        sites.iter().filter_map(|site| Some(site.role.expert()?.0.expert)).collect()
    }

    #[test]
    fn the_hottest_of_all_or_of_the_kept() {
        let scores = scores([0.1, 0.4, 0.2, 0.3]);
        let of = |share, plan, n| {
            let found = hottest(&sites(n), &scores, plan, share).expect("they fit");
            assert_eq!(found[0].role, LinearRole::Attention);
            experts(&found)
        };
        assert_eq!(of(0.5, None, 4), [1, 3]);
        assert_eq!(of(0.01, None, 4), [1]);
        let groups = vec![Group::single(0), Group::single(2), Group::single(3)];
        let layer = LayerPlan { n_experts: 4, groups, removed: vec![1] };
        let plan = Plan {
            version: PLAN_VERSION,
            fingerprint: Fingerprint::new("f"),
            input_sha256: String::new(),
            options: PlanOptions::default(),
            layers: BTreeMap::from([(LayerId::decoder(0), layer)]),
        };
        // Expert indices of the proxy.
        assert_eq!(of(0.34, Some(&plan), 3), [1, 2]);
    }
}
