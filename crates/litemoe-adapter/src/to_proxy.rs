use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{
    Adapters, Fingerprint, LayerPlan, LinearRole, LinearSite, Lora, MoeModel, Plan, RouterRule,
    Site,
};

use crate::evaluate::floats;
use crate::mount::{LoadedAdapter, check_format};
use crate::to_foundation::check_plan;
use crate::{AdapterError, AdapterRecord, MountRecord, MountRouting, SiteMap, load_for, peft};

/// Loads an adapter directory for a model, also one that is mounted on the model's foundation with restricted routing if the
/// model is the proxy that it was tuned on: under that routing the foundation computes what the proxy does. Its scale stays
/// part of α. `plan` is the proxy's.
///
/// # Errors
/// Those of [`load_for`]; of an adapter that is mounted: another routing, no plan or another one, and a proxy whose experts
/// are not the foundation's.
pub fn load_for_proxy<M: MoeModel + ?Sized>(
    dir: &Path,
    proxy: &M,
    fingerprint: &Fingerprint,
    plan: Option<&Plan>,
    device: &Device,
) -> Result<LoadedAdapter, AdapterError> {
    let record = AdapterRecord::read(dir)?;
    let is_to_move = |record: &AdapterRecord| {
        record.trained_on == *fingerprint && record.foundation != *fingerprint
    };
    let Some((record, mount)) = record.filter(is_to_move).and_then(|record| {
        let mount = record.mount.clone()?;
        Some((record, mount))
    }) else {
        return load_for(dir, proxy, fingerprint, device);
    };
    let plan = submodel(&record, &mount, plan)?;
    let proxy_sites = proxy.linear_sites();
    let moved = proxy_sites.iter().map(|site| in_foundation(site, plan));
    let sites = moved.collect::<Result<Vec<LinearSite>, _>>()?;
    let read = peft::read(dir, &sites, device)?;
    record.check_files(dir, &read.config, &read.sha256)?;
    check_format(dir, &read.config, Some(&record), true)?;
    let mut adapters = Adapters::default();
    for (site, to) in sites.iter().zip(proxy_sites) {
        if let Some(adapter) = read.adapters.at(site.site.as_str()) {
            adapters.insert(to.site.clone(), of_proxy(adapter.lora(), to, plan));
        }
    }
    let map = SiteMap::tuned(&adapters, proxy_sites, true);
    let record = AdapterRecord { map, mount: None, ..record };
    let config = peft::PeftConfig { routed: false, ..read.config };
    Ok(LoadedAdapter { mounted: adapters.into(), config, record: Some(record) })
}

/// The plan, if its proxy computes what the foundation does under the adapter's routing.
fn submodel<'a>(
    record: &AdapterRecord,
    mount: &MountRecord,
    plan: Option<&'a Plan>,
) -> Result<&'a Plan, AdapterError> {
    if mount.routing != MountRouting::Restricted {
        return Err(AdapterError::OtherRouting { routing: mount.routing });
    }
    let Some(plan) = plan else {
        let plan = record.plan.clone().unwrap_or_default();
        return Err(AdapterError::MountedPlanNeeded { plan });
    };
    check_plan(Some(record), Some(plan))?;
    let is_merged = |layer: &LayerPlan| layer.groups.iter().any(|group| !group.absorbed.is_empty());
    let reason = if record.refit.is_some() {
        "the proxy's own weights were refitted"
    } else if plan.layers.values().any(is_merged) {
        "the plan merges experts"
    } else if plan.options.router != RouterRule::DropRows {
        "the proxy has a router rule of its own"
    } else {
        return Ok(plan);
    };
    Err(AdapterError::OtherExpertWeights { reason })
}

/// The foundation's weight of a proxy's weight.
fn in_foundation(site: &LinearSite, plan: &Plan) -> Result<LinearSite, AdapterError> {
    match site.role {
        LinearRole::Router { layer } => {
            let d_out = plan.layers.get(&layer).map_or(site.d_out, |layer| layer.n_experts);
            Ok(LinearSite { d_out, ..site.clone() })
        }
        LinearRole::Expert { expert, .. } => {
            let group = plan.layers.get(&expert.layer).and_then(|l| l.groups.get(expert.expert));
            let renamed = group.and_then(|to| renumbered(&site.site, expert.expert, to.centroid));
            let site_of =
                renamed.ok_or_else(|| AdapterError::NoSuchSite { site: site.site.clone() })?;
            Ok(LinearSite { site: site_of, ..site.clone() })
        }
        LinearRole::Attention | LinearRole::Dense => Ok(site.clone()),
    }
}

/// A path with another expert's index.
fn renumbered(site: &Site, from: usize, to: usize) -> Option<Site> {
    let (before, after) = site.as_str().split_once(&format!(".experts.{from}."))?;
    Some(Site::new(format!("{before}.experts.{to}.{after}")))
}

/// A LoRA of the foundation's weight for the proxy's: of a router's, the outputs of the kept experts.
fn of_proxy(lora: &Lora, to: &LinearSite, plan: &Plan) -> Lora {
    let LinearRole::Router { layer } = to.role else { return lora.clone() };
    let Some(layer) = plan.layers.get(&layer) else { return lora.clone() };
    let (rank, n_experts) = (lora.rank(), layer.n_experts);
    let b = floats(lora.b.clone());
    let kept = |row: usize| layer.groups.iter().map(move |group| row * n_experts + group.centroid);
    let values: Vec<f32> = (0..rank).flat_map(kept).map(|at| b[at]).collect();
    let b = TensorData::new(values, [rank, layer.groups.len()]);
    Lora { b: Tensor::from_data(b, &lora.b.device()), ..lora.clone() }
}
