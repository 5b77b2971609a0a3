use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, bail};
use burn::tensor::Device;
use litemoe_adapter::{AdapterRecord, Effect, LoadedAdapter, load_with_plan};
use litemoe_core::{Adapters, Fingerprint, LanguageModel, MountedAdapter, Plan, Sampling};
use litemoe_files::map_large_allocations;
use litemoe_model::{Checkpoint, Model, ModelError, Outline};
use litemoe_score::About;
use litemoe_text::{Tokenizer, sampling_defaults};

use crate::args::cache::CacheArgs;
use crate::args::device::DeviceArgs;
use crate::args::weights::WeightArgs;
use crate::fingerprints::CacheEntry;
use crate::hub::{self, ModelId};
use crate::input::RowModel;
use crate::input_files::InputFiles;
use crate::output;

/// Number of tokens of the probe that checks an adapter's effect.
const PROBE_TOKENS: u32 = 16;

/// Opens a model directory or a pulled model, without loading weights. Checks a proxy against its record.
pub(crate) fn open(named: &Path) -> anyhow::Result<Checkpoint> {
    let checkpoint = open_unchecked(named)?;
    checkpoint.check_record()?;
    Ok(checkpoint)
}

/// As [`open`], but without reading a proxy's weights for the check.
pub(crate) fn open_unchecked(named: &Path) -> anyhow::Result<Checkpoint> {
    let dir = hub::locate(named)?;
    let cache = CacheEntry::of(&dir);
    let opened = Checkpoint::open(&dir);
    if let Ok(checkpoint) = &opened {
        let (family, bytes) = (checkpoint.family(), checkpoint.expert_bytes());
        tracing::info!(dir = %dir.display(), family, expert_bytes = bytes, "opened a model");
    }
    let opened = opened.map(|checkpoint| checkpoint.cached(Arc::new(cache)));
    opened.map_err(|error| match (&error, hub::snapshot_id(&dir)) {
        (ModelError::NoWeights { .. } | ModelError::MissingShard { .. }, Some(id)) => {
            anyhow::Error::new(error).context(format!(
                "the copy of {id} in the hub's cache is not whole, `litemoe pull {id}` completes it"
            ))
        }
        _ => error.into(),
    })
}

/// The files of a model and of adapters, to be called before they are read into memory.
pub(crate) fn inputs<'a>(
    named: &Path,
    adapters: impl IntoIterator<Item = &'a Path>,
) -> anyhow::Result<InputFiles> {
    let mut dirs = vec![hub::locate(named)?];
    dirs.extend(adapters.into_iter().map(Path::to_owned));
    Ok(InputFiles::of(&dirs))
}

/// Set by [`note_no_leftovers`].
static NO_LEFTOVERS: OnceLock<()> = OnceLock::new();

/// From now on, [`note_leftovers`] prints nothing.
pub(crate) fn note_no_leftovers() {
    let _ = NO_LEFTOVERS.set(());
}

/// Notes how much of a model's files is not used, if anything.
pub(crate) fn note_leftovers(checkpoint: &Checkpoint) {
    let n = checkpoint.leftovers().len();
    if n > 0 && NO_LEFTOVERS.get().is_none() {
        let dir = checkpoint.dir().display();
        output::note(&format!(
            "{dir}: {n} of its tensors and keys are not used; `litemoe inspect` lists them"
        ));
    }
}

/// Model name in records: the id on the Hub, or the directory's name.
pub(crate) fn name(checkpoint: &Checkpoint) -> String {
    hub::snapshot_id(checkpoint.dir()).map_or_else(|| checkpoint.name(), |id| id.repo)
}

/// Checks that a record was made for this model.
pub(crate) fn expect_fingerprint(
    checkpoint: &Checkpoint,
    of: &Fingerprint,
    file: &Path,
) -> anyhow::Result<()> {
    if checkpoint.fingerprint() == of {
        return Ok(());
    }
    bail!(
        "{} was made for the model {of}, but {} is {}",
        file.display(),
        checkpoint.dir().display(),
        checkpoint.fingerprint()
    )
}

/// Model directory with its tokenizer; no weights are read.
pub(crate) struct Opened {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) tokenizer: Tokenizer,
}

impl Opened {
    /// Opens a model directory or a pulled model, and its tokenizer.
    pub(crate) fn open(named: &Path) -> anyhow::Result<Self> {
        let checkpoint = open(named)?;
        let tokenizer = Tokenizer::from_dir(checkpoint.dir())?;
        let (tokens, vocab) = (tokenizer.vocab(), checkpoint.config().vocab);
        if tokens > vocab {
            bail!(
                "{}: the tokenizer has {tokens} tokens, but the model only {vocab}",
                checkpoint.dir().display()
            );
        }
        Ok(Self { checkpoint, tokenizer })
    }

    /// Reads an adapter for the model; a plan maps a proxy's expert indices to the foundation's.
    pub(crate) fn adapter(
        &self,
        dir: &Path,
        plan: Option<&Plan>,
        device: DeviceArgs,
    ) -> anyhow::Result<LoadedAdapter> {
        let Self { checkpoint, .. } = self;
        let (outline, device) = (Outline::of(checkpoint), device.open()?);
        let loaded = load_with_plan(dir, &outline, base_of(checkpoint, dir), plan, &device);
        loaded.with_context(|| cannot_mount(dir, checkpoint))
    }

    /// Loads the weights onto a device.
    pub(crate) fn load(self, device: DeviceArgs, weights: WeightArgs) -> anyhow::Result<Loaded> {
        let weights = weights.fixed_by(&self.checkpoint);
        weights.check(&device.open()?)?;
        let dtype = weights.of(&self.checkpoint);
        self.with(device, |checkpoint, device| Model::load_as(checkpoint, device, dtype))
    }

    /// Leaves the weights in the files until they are used; freed memory is not kept.
    pub(crate) fn stream(self, device: DeviceArgs) -> anyhow::Result<Loaded> {
        map_large_allocations();
        self.with(device, Model::stream)
    }

    fn with(
        self,
        device: DeviceArgs,
        make: impl FnOnce(&Checkpoint, &Device) -> Result<Model, ModelError>,
    ) -> anyhow::Result<Loaded> {
        let Self { checkpoint, tokenizer } = self;
        let device = device.open()?;
        note_leftovers(&checkpoint);
        let start = Instant::now();
        let model = make(&checkpoint, &device)?;
        tracing::debug!(dir = %checkpoint.dir().display(), elapsed = ?start.elapsed(), "loaded the model");
        Ok(Loaded { checkpoint, model, tokenizer })
    }
}

impl RowModel for Opened {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn max_tokens(&self) -> usize {
        self.checkpoint.config().max_tokens
    }
}

/// Model with its tokenizer.
pub(crate) struct Loaded {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) model: Model,
    pub(crate) tokenizer: Tokenizer,
}

impl RowModel for Loaded {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn max_tokens(&self) -> usize {
        self.model.max_tokens()
    }
}

impl Loaded {
    /// Loads a model onto a device.
    pub(crate) fn open(
        named: &Path,
        device: DeviceArgs,
        weights: WeightArgs,
    ) -> anyhow::Result<Self> {
        device.open()?;
        Opened::open(named)?.load(device, weights)
    }

    /// The same model, loaded with these weights, with KV caches in the format of the option.
    pub(crate) fn cached_as(self, cache: CacheArgs, weights: WeightArgs) -> anyhow::Result<Self> {
        let dtype = cache.or_default(weights.of(&self.checkpoint), self.model.config());
        Ok(Self { model: self.model.with_cache_dtype(dtype)?, ..self })
    }

    /// Metadata of the model for records.
    pub(crate) fn about(&self) -> About {
        About {
            fingerprint: self.checkpoint.fingerprint().clone(),
            model: name(&self.checkpoint),
            family: self.checkpoint.family().to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The model's own sampling, which options and requests change.
    pub(crate) fn sampling(&self) -> anyhow::Result<Sampling> {
        Ok(sampling_defaults(self.checkpoint.dir())?)
    }

    /// Loads an adapter, with its router bias, and checks that it changes the model's logits.
    pub(crate) fn adapter(&self, dir: &Path) -> anyhow::Result<MountedAdapter> {
        adapter(&self.checkpoint, &self.model, dir)
    }

    /// Checks that an adapter of a directory changes the model's logits.
    pub(crate) fn expect_mounted(
        &self,
        dir: &Path,
        mounted: &MountedAdapter,
    ) -> anyhow::Result<()> {
        expect_mounted(&self.checkpoint, &self.model, dir, mounted)
    }

    /// Checks that an adapter fits the model and changes its logits.
    pub(crate) fn expect_effect(&self, mounted: &MountedAdapter) -> anyhow::Result<()> {
        expect_effect(&self.model, mounted)
    }

    /// Checks token ids against the vocabulary and the maximum row length.
    pub(crate) fn expect_ids(&self, ids: &[u32]) -> anyhow::Result<()> {
        let (vocab, max) = (self.model.vocab(), self.model.max_tokens());
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            bail!("token id {id} is not below the vocabulary's size, {vocab}");
        }
        if ids.len() > max {
            bail!("{} tokens are more than the {max} that the model takes", ids.len());
        }
        Ok(())
    }
}

/// Fingerprint by which an adapter knows a model: a quantised one may have the adapters of the model that it was made from.
pub(crate) fn base_of<'a>(checkpoint: &'a Checkpoint, adapter: &Path) -> &'a Fingerprint {
    let source = checkpoint.quantised().map(|quantised| &quantised.source);
    // A record that cannot be read is refused when the adapter is.
    let record = source.and_then(|_| AdapterRecord::read(adapter).ok().flatten());
    let is_known = |source: &&Fingerprint| {
        record.is_some_and(|record| [record.foundation, record.trained_on].contains(source))
    };
    source.filter(is_known).unwrap_or_else(|| checkpoint.fingerprint())
}

/// Loads an adapter for a model of a checkpoint, with its router bias, and checks that it changes the model's logits.
pub(crate) fn adapter(
    checkpoint: &Checkpoint,
    model: &Model,
    dir: &Path,
) -> anyhow::Result<MountedAdapter> {
    let loaded = load_with_plan(dir, model, base_of(checkpoint, dir), None, &model.device());
    let mounted = loaded.with_context(|| cannot_mount(dir, checkpoint))?.mounted;
    expect_mounted(checkpoint, model, dir, &mounted)?;
    Ok(mounted)
}

fn expect_mounted(
    checkpoint: &Checkpoint,
    model: &Model,
    dir: &Path,
    mounted: &MountedAdapter,
) -> anyhow::Result<()> {
    expect_effect(model, mounted).with_context(|| cannot_mount(dir, checkpoint))?;
    let (n_loras, is_routed) = (mounted.adapters.loras().count(), mounted.router_bias.is_some());
    tracing::info!(dir = %dir.display(), n_loras, is_routed, "mounted an adapter");
    Ok(())
}

fn expect_effect(model: &Model, mounted: &MountedAdapter) -> anyhow::Result<()> {
    let probe: Vec<u32> = (0..PROBE_TOKENS).map(|i| i * 7 % model.vocab() as u32).collect();
    match litemoe_adapter::mount(model, mounted, &probe)? {
        Effect::Moves(_) | Effect::Unmet => Ok(()),
        Effect::Zero => bail!("it is all zero: it would change nothing"),
    }
}

fn cannot_mount(adapter: &Path, checkpoint: &Checkpoint) -> String {
    let (adapter, dir) = (adapter.display(), checkpoint.dir().display());
    format!("the adapter {adapter} cannot be mounted on {dir}")
}

/// As [`base`], for a model that does not exist yet.
pub(crate) fn base_at(dir: &Path) -> String {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = std::fs::canonicalize(parent.unwrap_or(Path::new(".")));
    let path = parent.ok().zip(dir.file_name()).map(|(parent, name)| parent.join(name));
    path.unwrap_or_else(|| dir.to_owned()).to_string_lossy().into_owned()
}

/// Base model of an adapter, for its PEFT configuration: the id on the Hub, or the absolute path, so that the adapter
/// does not depend on the working directory.
pub(crate) fn base(checkpoint: &Checkpoint) -> String {
    if let Some(id) = hub::snapshot_id(checkpoint.dir()).filter(ModelId::is_default) {
        return id.repo;
    }
    let dir = checkpoint.dir();
    let path = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    path.to_string_lossy().into_owned()
}

/// Number of values of an adapter's LoRA matrices.
pub(crate) fn n_values(adapters: &Adapters) -> usize {
    let values = adapters
        .loras()
        .map(|(_, lora)| lora.a.shape().num_elements() + lora.b.shape().num_elements());
    values.sum()
}

/// Bytes of an adapter's LoRA matrices in memory.
pub(crate) fn matrix_bytes(adapters: &Adapters) -> u64 {
    (n_values(adapters) * size_of::<f32>()) as u64
}
