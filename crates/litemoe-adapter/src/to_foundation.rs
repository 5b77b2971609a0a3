use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{
    Adapters, ExpertId, Fingerprint, LayerPlan, LinearRole, LinearSite, Lora, MoeModel, Plan,
    PlanError, RouterRule, Site,
};

use crate::evaluate::floats;
use crate::mount::{LoadedAdapter, check_format};
use crate::{AdapterError, AdapterRecord, SiteMap, load_for, peft};

/// Loads an adapter directory for the foundation, which need not be able to run, with expert indices mapped by the plan of
/// the proxy it was tuned on.
///
/// # Errors
/// Those of [`load_for`]; a plan that is not the adapter's or does not fit the foundation; LoRAs on a proxy's experts
/// without a plan.
pub fn load_with_plan<M: MoeModel + ?Sized>(
    dir: &Path,
    foundation: &M,
    fingerprint: &Fingerprint,
    plan: Option<&Plan>,
    device: &Device,
) -> Result<LoadedAdapter, AdapterError> {
    let record = AdapterRecord::read(dir)?;
    check_plan(record.as_ref(), plan)?;
    if let Some(plan) = plan {
        let checked = plan.check(fingerprint, foundation.moe_layers());
        checked.map_err(|source| AdapterError::Plan { source })?;
    }
    // A proxy that keeps every expert unchanged is the foundation.
    let is_to_move = |record: &AdapterRecord| {
        record.map == SiteMap::Proxy
            && record.foundation == *fingerprint
            && record.trained_on != *fingerprint
    };
    let Some(record) = record.filter(is_to_move) else {
        return load_for(dir, foundation, fingerprint, device);
    };
    let Some(plan) = plan else {
        return Err(AdapterError::PlanNeeded { plan: record.plan.unwrap_or_default() });
    };
    if record.mount.is_some() {
        return Err(AdapterError::Mounted { dir: dir.to_owned() });
    }
    let record = AdapterRecord { map: SiteMap::Host, ..record };
    let sites = foundation.linear_sites();
    let read = peft::read(dir, &of_proxy(sites, plan), device)?;
    record.check_files(dir, &read.config, &read.sha256)?;
    check_format(dir, &read.config, Some(&record), false)?;
    let adapters = to_foundation(&read.adapters, sites, plan)?;
    Ok(LoadedAdapter { mounted: adapters.into(), config: read.config, record: Some(record) })
}

/// Sites of a plan's proxy: in each layer, those of its first experts, as many as are kept. Its router has as many
/// outputs if rows of the foundation's are dropped.
fn of_proxy(sites: &[LinearSite], plan: &Plan) -> Vec<LinearSite> {
    let is_there = |site: &&LinearSite| {
        site.role.expert().is_none_or(|(ExpertId { layer, expert }, _)| {
            plan.layers.get(&layer).is_none_or(|layer| expert < layer.groups.len())
        })
    };
    let site = |site: &LinearSite| match dropping(plan, site.role) {
        Some(layer) => LinearSite { d_out: layer.groups.len(), ..site.clone() },
        None => site.clone(),
    };
    sites.iter().filter(is_there).map(site).collect()
}

/// Checks that the plan is the adapter's.
pub(crate) fn check_plan(
    record: Option<&AdapterRecord>,
    plan: Option<&Plan>,
) -> Result<(), AdapterError> {
    let Some(plan) = plan.map(Plan::hash) else { return Ok(()) };
    match record.and_then(|record| record.plan.clone()) {
        None => Err(AdapterError::NoProxy),
        Some(adapter) if adapter != plan => Err(AdapterError::OtherPlan { adapter, plan }),
        Some(_) => Ok(()),
    }
}

/// Maps the LoRAs of a proxy's experts to the foundation's: proxy expert `i` of a layer is the centroid of the
/// plan's group `i`; absorbed experts get no LoRA. A LoRA of a router whose rows were dropped is zero for the experts
/// that are not centroids. All other LoRAs keep their sites.
///
/// `sites` are the foundation's; a proxy's sites have the same paths.
///
/// # Errors
/// A LoRA on an expert that the plan does not keep, or that the foundation does not have.
pub fn to_foundation(
    adapters: &Adapters,
    sites: &[LinearSite],
    plan: &Plan,
) -> Result<Adapters, AdapterError> {
    let experts = sites.iter().filter_map(|site| Some((&site.site, site.role.expert()?)));
    let experts: BTreeMap<&Site, _> = experts.collect();
    let places: BTreeMap<_, &Site> = experts.iter().map(|(&site, &place)| (place, site)).collect();
    let routers = sites.iter().filter_map(|site| Some((&site.site, dropping(plan, site.role)?)));
    let routers: BTreeMap<&Site, &LayerPlan> = routers.collect();
    let moved = |(site, lora): (&Site, &Lora)| {
        if let Some(layer) = routers.get(site) {
            return Ok((site.clone(), spread(site, lora, layer)?));
        }
        let to = match experts.get(site) {
            Some(&(expert, part)) => places.get(&(centroid(plan, expert)?, part)).copied(),
            None => Some(site),
        };
        let to = to.ok_or_else(|| AdapterError::NoSuchSite { site: site.clone() })?;
        Ok((to.clone(), lora.clone()))
    };
    adapters.loras().map(moved).collect()
}

/// Plan of a router's layer if the proxy's router lacks rows of the foundation's.
fn dropping(plan: &Plan, role: LinearRole) -> Option<&LayerPlan> {
    let LinearRole::Router { layer } = role else { return None };
    plan.layers.get(&layer).filter(|_| plan.options.router == RouterRule::DropRows)
}

/// LoRA of a proxy's router with the foundation's experts as outputs.
///
/// # Errors
/// Other outputs than the kept experts.
fn spread(site: &Site, lora: &Lora, layer: &LayerPlan) -> Result<Lora, AdapterError> {
    let ([d_in, _], [rank, kept]) = (lora.a.dims(), lora.b.dims());
    if kept != layer.groups.len() {
        let (site, expected) = (site.clone(), [d_in, layer.groups.len()]);
        return Err(AdapterError::SiteShape { site, found: [d_in, kept], expected });
    }
    let (b, n_experts) = (floats(lora.b.clone()), layer.n_experts);
    let mut all = vec![0.0; rank * n_experts];
    for (row, values) in b.chunks(kept).enumerate() {
        for (group, value) in layer.groups.iter().zip(values) {
            all[row * n_experts + group.centroid] = *value;
        }
    }
    let b = Tensor::from_data(TensorData::new(all, [rank, n_experts]), &lora.b.device());
    Ok(Lora { b, ..lora.clone() })
}

/// The foundation's expert for a proxy's expert.
fn centroid(plan: &Plan, ExpertId { layer, expert }: ExpertId) -> Result<ExpertId, AdapterError> {
    let Some(of_layer) = plan.layers.get(&layer) else {
        return Err(AdapterError::Plan { source: PlanError::MissingLayer { layer } });
    };
    let kept = of_layer.groups.len();
    let group = of_layer.groups.get(expert);
    let group = group.ok_or(AdapterError::ExpertNotKept { layer, expert, kept })?;
    Ok(layer.expert(group.centroid))
}
