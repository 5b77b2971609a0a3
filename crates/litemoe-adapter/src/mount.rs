use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    Adapters, ByRows, ExpertId, Fingerprint, Input, LanguageModel, LayerId, LinearSite, Lora,
    MoeModel, MountedAdapter, Observer, Pass, Routing, Site,
};
use litemoe_files::{StagedDir, check_target, holds_only};

use crate::evaluate::floats;
use crate::peft::{self, PeftConfig, PeftSha256};
use crate::{AdapterError, AdapterRecord, RECORD_FILE};

/// An adapter directory in memory.
#[derive(Debug, Clone)]
pub struct LoadedAdapter {
    /// The LoRAs, and the router bias of a mounted adapter.
    pub mounted: MountedAdapter,
    /// Other fields of the PEFT configuration.
    pub config: PeftConfig,
    /// `litemoe.json`; `None` if another program wrote the adapter.
    pub record: Option<AdapterRecord>,
}

/// Effect of an adapter on a model's logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// None: at every site A or B is zero.
    Zero,
    /// Logits change by at most this much.
    Moves(f32),
    /// Unknown: all nonzero LoRAs are on routed experts, and the probe routes no token to any of those.
    Unmet,
}

/// Writes an adapter directory atomically: PEFT's two files, and `litemoe.json`, with their hashes, if there is a
/// record.
///
/// # Errors
/// LoRAs that do not fit `sites` or hold a value that is not finite, a target that may not be replaced, see
/// [`check_save`], and I/O errors; the target is unchanged then.
pub fn save(
    target: &Path,
    adapters: &Adapters,
    sites: &[LinearSite],
    config: &PeftConfig,
    record: Option<&AdapterRecord>,
) -> Result<(), AdapterError> {
    check_fit(adapters, sites)?;
    save_by(target, record, |dir| peft::write(dir, adapters, sites, config))
}

/// As [`save`], in the form of [`peft::write_uniform`].
///
/// # Errors
/// As [`save`].
pub fn save_uniform(
    target: &Path,
    adapters: &Adapters,
    sites: &[LinearSite],
    config: &PeftConfig,
    record: Option<&AdapterRecord>,
) -> Result<(), AdapterError> {
    check_fit(adapters, sites)?;
    save_by(target, record, |dir| peft::write_uniform(dir, adapters, sites, config))
}

fn save_by(
    target: &Path,
    record: Option<&AdapterRecord>,
    write: impl FnOnce(&mut StagedDir) -> io::Result<PeftSha256>,
) -> Result<(), AdapterError> {
    let save = || {
        let mut dir = StagedDir::new(target, is_own)?;
        let peft_sha256 = Some(write(&mut dir)?);
        if let Some(record) = record {
            let record = AdapterRecord { peft_sha256, ..record.clone() };
            record.write(dir.file(RECORD_FILE)?)?;
        }
        dir.commit()
    };
    save().map_err(AdapterError::io(target))
}

/// Checks that an adapter may be saved as `target`: it does not exist, is an empty directory, or was written by
/// [`save`].
pub fn check_save(target: &Path) -> Result<(), AdapterError> {
    check_target(target, is_own).map_err(AdapterError::io(target))
}

/// Whether a directory contains an adapter with a record, and no other files.
pub fn is_own(dir: &Path) -> bool {
    let names = [peft::CONFIG_FILE, peft::MODEL_FILE, peft::LITEMOE_FILE, RECORD_FILE];
    dir.join(RECORD_FILE).exists() && holds_only(dir, &names)
}

/// Loads an adapter directory for a model and checks that it was made for it.
///
/// # Errors
/// Those of [`peft::read`], [`AdapterRecord::read`] and [`AdapterRecord::check_base`]; files that are not those of the
/// record; a router bias that does not fit the model; files that disagree about having a bias.
pub fn load<M: LanguageModel + ?Sized>(
    dir: &Path,
    model: &M,
    fingerprint: &Fingerprint,
) -> Result<LoadedAdapter, AdapterError> {
    load_for(dir, model, fingerprint, &model.device())
}

/// As [`load`], for a model that need not be able to run.
///
/// # Errors
/// As [`load`].
pub fn load_for<M: MoeModel + ?Sized>(
    dir: &Path,
    model: &M,
    fingerprint: &Fingerprint,
    device: &Device,
) -> Result<LoadedAdapter, AdapterError> {
    let record = AdapterRecord::read(dir)?;
    if let Some(record) = &record {
        record.check_base(fingerprint)?;
    }
    let layers = model.moe_layers();
    let router_bias = record.as_ref().map(|record| record.router_bias(dir, layers));
    let router_bias = router_bias.transpose()?.flatten();
    let read = peft::read(dir, model.linear_sites(), device)?;
    if let Some(record) = &record {
        record.check_files(dir, &read.config, &read.sha256)?;
    }
    check_format(dir, &read.config, record.as_ref(), router_bias.is_some())?;
    let mounted = MountedAdapter { adapters: read.adapters, router_bias };
    let checked = mounted.check_routing(layers);
    checked.map_err(|source| AdapterError::Routing { source })?;
    Ok(LoadedAdapter { mounted, config: read.config, record })
}

/// Checks that `peft_type` announces a router bias exactly if there is one.
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

/// Checks that an adapter can be mounted on a model and that it changes the logits of `probe_ids`, a row of tokens.
///
/// # Errors
/// A LoRA at a site that the model does not have, of another shape or with a value that is not finite; a router bias
/// for other layers; and [`AdapterError::NoEffect`].
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

/// Checks every LoRA's site, shape and values against the model's weights.
///
/// # Errors
/// As [`mount`], except [`AdapterError::NoEffect`].
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

/// Checks on one row of tokens that an adapter changes the model's logits, under its router bias: the most common
/// defect in practice is an adapter that silently does nothing.
///
/// # Errors
/// [`AdapterError::NoEffect`] if some nonzero LoRA is applied to the tokens but no logit changes;
/// [`AdapterError::ModelLogitsNotFinite`] and [`AdapterError::LogitsNotFinite`].
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
    let mut met = RoutedExperts::default();
    let bare = Pass {
        observer: Some(&mut met),
        adapters: ByRows::default(),
        ..Pass::mounted(Some(mounted))
    };
    let plain = floats(model.logits(&input, &mut { bare }));
    let adapted = floats(model.logits(&input, &mut Pass::mounted(Some(mounted))));
    let not_finite = |logits: &[f32]| logits.iter().copied().find(|logit| !logit.is_finite());
    if let Some(logit) = not_finite(&plain) {
        return Err(AdapterError::ModelLogitsNotFinite { logit });
    }
    if let Some(logit) = not_finite(&adapted) {
        return Err(AdapterError::LogitsNotFinite { logit });
    }
    let moved = plain.iter().zip(&adapted).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    match moved {
        0.0 if met.nothing_of(adapters, model.linear_sites()) => Ok(Effect::Unmet),
        0.0 => Err(AdapterError::NoEffect { sites: adapters.len() }),
        moved => Ok(Effect::Moves(moved)),
    }
}

/// Experts that some token is routed to.
#[derive(Default)]
struct RoutedExperts(BTreeSet<ExpertId>);

impl Observer for RoutedExperts {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let experts = routing.experts.to_data();
        self.0.extend(experts.iter::<i64>().map(|expert| layer.expert(expert as usize)));
    }

    fn wants_activations(&self) -> bool {
        false
    }
}

impl RoutedExperts {
    /// Whether tokens are routed to experts, but no nonzero LoRA is applied to any token.
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
