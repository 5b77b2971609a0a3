use std::path::Path;

use burn::tensor::Tensor;
use litemoe_core::{Adapters, Fingerprint, Input, LanguageModel, LinearSite, Lora, Pass, Site};
use litemoe_kernels::{StagedDir, check_target, holds_only};

use crate::evaluate::floats;
use crate::peft::{self, PeftConfig};
use crate::{AdapterError, AdapterRecord, RECORD_FILE};

/// An adapter's directory in memory.
#[derive(Debug, Clone)]
pub struct LoadedAdapter {
    /// The updates.
    pub adapters: Adapters,
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
    dir.join(RECORD_FILE).exists()
        && holds_only(dir, &[peft::CONFIG_FILE, peft::MODEL_FILE, RECORD_FILE])
}

/// Reads an adapter's directory for a model and checks that it was made for it.
///
/// # Errors
/// Those of [`peft::read`] and [`AdapterRecord::read`], and [`AdapterError::OtherBase`].
pub fn load<M: LanguageModel + ?Sized>(
    dir: &Path,
    model: &M,
    fingerprint: &Fingerprint,
) -> Result<LoadedAdapter, AdapterError> {
    let record = AdapterRecord::read(dir)?;
    if let Some(record) = &record {
        record.check_base(fingerprint)?;
    }
    let read = peft::read(dir, model.linear_sites(), &model.device())?;
    Ok(LoadedAdapter { adapters: read.adapters, config: read.config, record })
}

/// Checks that an adapter can stand on a model and shows on `probe_ids`, a row of tokens, that it does something.
///
/// # Errors
/// An update where the model has no weight, one of another shape or with a value that is no finite number, and
/// [`AdapterError::NoEffect`].
pub fn mount<M: LanguageModel + ?Sized>(
    model: &M,
    adapters: &Adapters,
    probe_ids: &[u32],
) -> Result<Effect, AdapterError> {
    check_fit(adapters, model.linear_sites())?;
    probe(model, adapters, probe_ids)
}

/// Checks every update against the weight it is to stand beside.
///
/// # Errors
/// As [`mount`], but for the effect.
pub fn check_fit(adapters: &Adapters, sites: &[LinearSite]) -> Result<(), AdapterError> {
    for (site, lora) in adapters.iter() {
        let weight = sites.iter().find(|weight| weight.site == *site);
        let weight = weight.ok_or_else(|| AdapterError::NoSuchSite { site: site.clone() })?;
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

/// Shows on one row of tokens that an adapter changes what a model says: the field's commonest defect is one that
/// silently does nothing.
///
/// # Errors
/// [`AdapterError::NoEffect`] when some update is not zero and yet no logit moves; [`AdapterError::LogitsNotFinite`].
pub fn probe<M: LanguageModel + ?Sized>(
    model: &M,
    adapters: &Adapters,
    ids: &[u32],
) -> Result<Effect, AdapterError> {
    if adapters.iter().all(|(_, lora)| is_zero(lora)) {
        return Ok(Effect::Zero);
    }
    let rows = vec![ids.to_vec()];
    let input = Input { encoder_rows: model.has_encoder().then(|| rows.clone()), rows };
    let plain = floats(model.logits(&input, &mut Pass::plain()));
    let adapted = floats(model.logits(&input, &mut Pass::adapted(adapters)));
    if let Some(logit) = adapted.iter().find(|logit| !logit.is_finite()) {
        return Err(AdapterError::LogitsNotFinite { logit: *logit });
    }
    let moved = plain.iter().zip(&adapted).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    if moved == 0.0 {
        return Err(AdapterError::NoEffect { sites: adapters.len() });
    }
    Ok(Effect::Moves(moved))
}

fn is_zero(lora: &Lora) -> bool {
    let zero = |matrix: &Tensor<2>| floats(matrix.clone()).iter().all(|&value| value == 0.0);
    lora.scale == 0.0 || zero(&lora.b) || zero(&lora.a)
}
