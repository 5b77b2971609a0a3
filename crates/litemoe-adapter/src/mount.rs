use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::Tensor;
use litemoe_core::{
    Adapters, ByRows, ExpertId, Fingerprint, Input, LanguageModel, LayerId, LinearSite, Lora,
    MountedAdapter, Observer, Pass, Routing, Site,
};
use litemoe_files::{StagedDir, check_target, holds_only};

use crate::evaluate::floats;
use crate::peft::{self, PeftConfig};
use crate::{AdapterError, AdapterRecord, RECORD_FILE};

/// An adapter's directory in memory.
#[derive(Debug, Clone)]
pub struct LoadedAdapter {
    /// The updates, and where the adapter is mounted its router bias.
    pub mounted: MountedAdapter,
    /// What PEFT's configuration says beside them.
    pub config: PeftConfig,
    /// `litemoe.json`; `None` when another program wrote the adapter.
    pub record: Option<AdapterRecord>,
}

/// What an adapter does to a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// Nothing, because at every site A or B is zero.
    Zero,
    /// It moves logits by up to this much.
    Moves(f32),
    /// The probe cannot tell: all updates stand beside routed experts, and it sent no token to any of those.
    Unmet,
}

/// Writes an adapter's directory: PEFT's two files, and `litemoe.json` where there is a record. All or nothing.
///
/// # Errors
/// Those of the disk, and a target that may not be replaced, see [`check_save`]; the target is then as it was.
pub fn save(
    target: &Path,
    adapters: &Adapters,
    sites: &[LinearSite],
    config: &PeftConfig,
    record: Option<&AdapterRecord>,
) -> Result<(), AdapterError> {
    let write = || {
        let mut dir = StagedDir::new(target, is_own)?;
        peft::write(&mut dir, adapters, sites, config)?;
        if let Some(record) = record {
            record.write(dir.file(RECORD_FILE)?)?;
        }
        dir.commit()
    };
    write().map_err(AdapterError::io(target))
}

/// Whether an adapter may be saved as `target`: nothing is there, or an empty directory, or one that [`save`] wrote.
///
/// # Errors
/// [`AdapterError::Io`]
pub fn check_save(target: &Path) -> Result<(), AdapterError> {
    check_target(target, is_own).map_err(AdapterError::io(target))
}

/// Whether a directory is an adapter with a record, and nothing else.
pub fn is_own(dir: &Path) -> bool {
    let names = [peft::CONFIG_FILE, peft::MODEL_FILE, peft::LITEMOE_FILE, RECORD_FILE];
    dir.join(RECORD_FILE).exists() && holds_only(dir, &names)
}

/// Reads an adapter's directory for a model and checks that it was made for it.
///
/// # Errors
/// Those of [`peft::read`], [`AdapterRecord::read`] and [`AdapterRecord::check_base`]; a router bias that does not fit the
/// model, and files of which one speaks of a bias and the other does not.
pub fn load<M: LanguageModel + ?Sized>(
    dir: &Path,
    model: &M,
    fingerprint: &Fingerprint,
) -> Result<LoadedAdapter, AdapterError> {
    let record = AdapterRecord::read(dir)?;
    if let Some(record) = &record {
        record.check_base(fingerprint)?;
    }
    read_for(dir, model, record)
}

/// PEFT's files beside a record.
fn read_for<M: LanguageModel + ?Sized>(
    dir: &Path,
    model: &M,
    record: Option<AdapterRecord>,
) -> Result<LoadedAdapter, AdapterError> {
    let layers = model.moe_layers();
    let router_bias = record.as_ref().map(|record| record.router_bias(dir, layers));
    let router_bias = router_bias.transpose()?.flatten();
    let read = peft::read(dir, model.linear_sites(), &model.device())?;
    check_format(dir, &read.config, record.as_ref(), router_bias.is_some())?;
    let mounted = MountedAdapter { adapters: read.adapters, router_bias };
    let checked = mounted.check_routing(layers);
    checked.map_err(|source| AdapterError::Routing { source })?;
    Ok(LoadedAdapter { mounted, config: read.config, record })
}

/// A router bias and the format that says there is one go together.
pub(crate) fn check_format(
    dir: &Path,
    config: &PeftConfig,
    record: Option<&AdapterRecord>,
    is_biased: bool,
) -> Result<(), AdapterError> {
    let path = dir.join(peft::CONFIG_FILE);
    match (config.routed, is_biased, record.and_then(|record| record.mount.as_ref())) {
        (true, false, _) => Err(AdapterError::NoRouting { path }),
        (false, true, Some(mount)) => {
            let (routing, found) = (mount.routing, peft::LORA_TYPE);
            Err(AdapterError::RoutingFormat { path, routing, found })
        }
        _ => Ok(()),
    }
}

/// Checks that an adapter can be mounted on a model and shows on `probe_ids`, a row of tokens, that it does something.
///
/// # Errors
/// An update where the model has no weight, one of another shape or with a value that is no finite number, a router bias
/// for other layers, and [`AdapterError::NoEffect`].
pub fn mount<M: LanguageModel + ?Sized>(
    model: &M,
    mounted: &MountedAdapter,
    probe_ids: &[u32],
) -> Result<Effect, AdapterError> {
    check_fit(&mounted.adapters, model.linear_sites())?;
    let checked = mounted.check_routing(model.moe_layers());
    checked.map_err(|source| AdapterError::Routing { source })?;
    probe(model, mounted, probe_ids)
}

/// Checks every update against the weight it is to stand beside.
///
/// # Errors
/// As [`mount`], but for the effect.
pub fn check_fit(adapters: &Adapters, sites: &[LinearSite]) -> Result<(), AdapterError> {
    let weights: BTreeMap<&Site, &LinearSite> =
        sites.iter().map(|weight| (&weight.site, weight)).collect();
    for (site, lora) in adapters.loras() {
        let weight =
            weights.get(site).ok_or_else(|| AdapterError::NoSuchSite { site: site.clone() })?;
        check_lora(site, lora, [weight.d_in, weight.d_out])?;
    }
    Ok(())
}

fn check_lora(site: &Site, lora: &Lora, expected: [usize; 2]) -> Result<(), AdapterError> {
    let ([d_in, rank], [rank_b, d_out]) = (lora.a.dims(), lora.b.dims());
    if [d_in, d_out] != expected || rank != rank_b {
        let site = site.clone();
        return Err(AdapterError::SiteShape { site, found: [d_in, d_out], expected });
    }
    let finite = |matrix: &Tensor<2>| floats(matrix.clone()).iter().all(|value| value.is_finite());
    if lora.scale.is_finite() && finite(&lora.a) && finite(&lora.b) {
        return Ok(());
    }
    Err(AdapterError::SiteNotFinite { site: site.clone() })
}

/// Shows on one row of tokens that an adapter's updates change what a model says, under its router bias: the field's
/// commonest defect is one that silently does nothing.
///
/// # Errors
/// [`AdapterError::NoEffect`] when some update that the tokens come by is not zero and yet no logit moves;
/// [`AdapterError::LogitsNotFinite`].
pub fn probe<M: LanguageModel + ?Sized>(
    model: &M,
    mounted: &MountedAdapter,
    ids: &[u32],
) -> Result<Effect, AdapterError> {
    let adapters = &mounted.adapters;
    if adapters.loras().all(|(_, lora)| is_zero(lora)) {
        return Ok(Effect::Zero);
    }
    let rows = vec![ids.to_vec()];
    let input = Input { encoder_rows: model.has_encoder().then(|| rows.clone()), rows };
    let mut met = Met::default();
    let bare = Pass {
        observer: Some(&mut met),
        adapters: ByRows::default(),
        ..Pass::mounted(Some(mounted))
    };
    let plain = floats(model.logits(&input, &mut { bare }));
    let adapted = floats(model.logits(&input, &mut Pass::mounted(Some(mounted))));
    if let Some(logit) = adapted.iter().find(|logit| !logit.is_finite()) {
        return Err(AdapterError::LogitsNotFinite { logit: *logit });
    }
    let moved = plain.iter().zip(&adapted).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    match moved {
        0.0 if met.nothing_of(adapters, model.linear_sites()) => Ok(Effect::Unmet),
        0.0 => Err(AdapterError::NoEffect { sites: adapters.len() }),
        moved => Ok(Effect::Moves(moved)),
    }
}

/// The experts that some token was sent to.
#[derive(Default)]
struct Met(BTreeSet<ExpertId>);

impl Observer for Met {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let experts = routing.experts.to_data();
        self.0.extend(experts.iter::<i64>().map(|expert| layer.expert(expert as usize)));
    }

    fn wants_activations(&self) -> bool {
        false
    }
}

impl Met {
    /// Whether tokens were sent to experts, but none came by an update that is not zero.
    fn nothing_of(&self, adapters: &Adapters, sites: &[LinearSite]) -> bool {
        let experts = sites.iter().filter_map(|site| Some((&site.site, site.role.expert()?.0)));
        let experts: BTreeMap<&Site, ExpertId> = experts.collect();
        let is_unmet = |site| experts.get(site).is_some_and(|expert| !self.0.contains(expert));
        let mut updates = adapters.loras().filter(|(_, lora)| !is_zero(lora));
        !self.0.is_empty() && updates.all(|(site, _)| is_unmet(site))
    }
}

fn is_zero(lora: &Lora) -> bool {
    let zero = |matrix: &Tensor<2>| floats(matrix.clone()).iter().all(|&value| value == 0.0);
    lora.scale == 0.0 || zero(&lora.b) || zero(&lora.a)
}
