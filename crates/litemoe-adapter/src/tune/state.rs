use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{
    Adapters, ChecksumError, Checksummed, Fingerprint, Lora, Sequence, Site, WeightDtype,
};
use litemoe_files::write_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::adamw::Moments;
use super::{TuneData, TuneOptions, Tuned};
use crate::evaluate::floats;
use crate::tensors::{MAX_HEADER_BYTES, Matrices, MatrixFile, header_len, read_metadata};
use crate::{AdapterError, Evaluation};

/// Metadata key of a checkpoint; the value is one JSON document.
const KEY: &str = "litemoe_tune";

/// Checks that a file is a checkpoint of any tuning run, by its header.
///
/// # Errors
/// [`AdapterError::NotACheckpoint`] with the reason, and I/O errors.
pub fn check_checkpoint(path: &Path) -> Result<(), AdapterError> {
    let not = |problem: String| AdapterError::NotACheckpoint { path: path.to_owned(), problem };
    let metadata = read_metadata(path).map_err(|error| match error {
        AdapterError::Safetensors { source, .. } => not(source.to_string()),
        error => error,
    })?;
    metadata.get(KEY).map(drop).ok_or_else(|| not(no_key()))
}

fn no_key() -> String {
    format!("its metadata has no {KEY}")
}

/// Complete state of a run between two steps; the rest of the run depends on nothing else that changes.
pub(super) struct TuneState {
    /// Steps done.
    pub(super) step: usize,
    /// Training tokens so far.
    pub(super) tokens: u64,
    pub(super) adapters: Adapters,
    /// AdamW moments of A and B.
    pub(super) moments: BTreeMap<Site, [Moments; 2]>,
    pub(super) best: Option<Best>,
}

/// Best step so far.
pub(super) struct Best {
    pub(super) step: usize,
    pub(super) adapters: Adapters,
    pub(super) validation: Option<Evaluation>,
}

impl Best {
    /// Whether a later step is better; without validation rows, it always is.
    pub(super) fn is_beaten_by(&self, later: Option<&Evaluation>) -> bool {
        match (&self.validation, later) {
            (Some(best), Some(later)) => later.loss() < best.loss(),
            _ => true,
        }
    }
}

/// Identity of a run: hashes and values that a checkpoint carries.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunId {
    model: Fingerprint,
    /// Absent in files of earlier versions, and for f32.
    #[serde(default, skip_serializing_if = "WeightDtype::is_f32")]
    dtype: WeightDtype,
    options: TuneOptions,
    train_sha256: String,
    validation_sha256: String,
    adapter_sha256: String,
}

impl RunId {
    pub(super) fn new(
        (model, dtype): (&Fingerprint, WeightDtype),
        initial: &Adapters,
        data: TuneData<'_>,
        options: &TuneOptions,
    ) -> Self {
        Self {
            model: model.clone(),
            dtype,
            options: options.clone(),
            train_sha256: hash_rows(data.train),
            validation_sha256: hash_rows(data.validation),
            adapter_sha256: hash_adapters(initial),
        }
    }

    /// Checks that a checkpoint is of this run; the error names the first difference.
    fn check(&self, path: &Path, other: &Self) -> Result<(), AdapterError> {
        let (run, checkpoint) = (flat(self), flat(other));
        let Some((what, run)) =
            run.iter().find(|(what, value)| checkpoint.get(*what) != Some(value))
        else {
            return Ok(());
        };
        let checkpoint = checkpoint.get(what).unwrap_or(&Value::Null).to_string();
        let (path, what) = (path.to_owned(), what.clone());
        Err(AdapterError::OtherRun { path, what, checkpoint, run: run.to_string() })
    }
}

/// A run's identity as one flat table, including the options' fields.
fn flat(id: &RunId) -> BTreeMap<String, Value> {
    let mut table = BTreeMap::new();
    let Ok(Value::Object(fields)) = serde_json::to_value(id) else { return table };
    for (name, value) in fields {
        match value {
            Value::Object(inner) => table.extend(inner),
            value => drop(table.insert(name, value)),
        }
    }
    table.insert("dtype".to_owned(), id.dtype.name().into());
    table
}

/// A checkpoint's metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    run: RunId,
    step: usize,
    tokens: u64,
    best: Option<BestHeader>,
    /// SHA-256 of the matrices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    matrices_sha256: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BestHeader {
    step: usize,
    validation: Option<Evaluation>,
}

impl Header {
    /// What no step of a run on these rows can have.
    fn problem(&self, data: TuneData<'_>) -> Option<String> {
        let Self { run: RunId { ref options, .. }, step, tokens, ref best, .. } = *self;
        let longest = data.train.iter().map(Sequence::n_tokens).max().unwrap_or_default();
        let most = (options.batch as u64).saturating_mul(longest as u64);
        if step > options.steps || tokens > most.saturating_mul(step as u64) {
            return Some(format!(
                "it states step {step} of {} after {tokens} tokens",
                options.steps
            ));
        }
        let n_rows = data.validation.len() as u64;
        let is_possible = |evaluation: &Evaluation| {
            evaluation.rows == n_rows && evaluation.exact_rows <= n_rows && evaluation.tokens > 0
        };
        let Some(best) = best else {
            return (step == options.steps).then(|| "it states no best step".to_owned());
        };
        if !(1..=step).contains(&best.step) {
            return Some(format!("it states {} as the best step of {step}", best.step));
        }
        let is_right = best.validation.as_ref().map_or(n_rows == 0, is_possible);
        (!is_right).then(|| format!("its evaluation is of other rows than these {n_rows}"))
    }
}

impl TuneState {
    /// State before the first step.
    pub(super) fn start(initial: &Adapters) -> Self {
        let zeros = |(site, lora): (&Site, &Lora)| {
            (site.clone(), [Moments::zeros(&lora.a), Moments::zeros(&lora.b)])
        };
        let moments = initial.loras().map(zeros).collect();
        Self { step: 0, tokens: 0, adapters: initial.clone(), moments, best: None }
    }

    /// Result of a finished run.
    pub(super) fn into_tuned(self) -> Tuned {
        let best = self.best.unwrap_or(Best {
            step: self.step,
            adapters: self.adapters,
            validation: None,
        });
        let Best { step: best_step, adapters, validation } = best;
        Tuned { adapters, best_step, validation, tokens: self.tokens }
    }

    /// Checks before the first step that the header of any later checkpoint is not too long for safetensors.
    pub(super) fn check_header(&self, path: &Path, run: &RunId) -> Result<(), AdapterError> {
        const NUMBERS: u64 = 500; // the longest that steps, tokens and an evaluation can become
        let best = self.best.as_ref().map_or(&self.adapters, |best| &best.adapters);
        let matrices = self.parts(Some(best)).map(|(name, matrix)| (name, matrix.dims()));
        let header = self.header(path, run, "0".repeat(64))?;
        let len = header_len(&matrices.collect(), KEY, header);
        let len = len.map_err(|source| AdapterError::Safetensors { path: path.to_owned(), source });
        match len? + NUMBERS {
            bytes if bytes > MAX_HEADER_BYTES => {
                let (path, weights) = (path.to_owned(), self.adapters.len());
                Err(AdapterError::CheckpointHeader { path, weights, bytes })
            }
            _ => Ok(()),
        }
    }

    fn header(
        &self,
        path: &Path,
        run: &RunId,
        matrices_sha256: String,
    ) -> Result<String, AdapterError> {
        let best = self.best.as_ref();
        let header = Header {
            run: run.clone(),
            step: self.step,
            tokens: self.tokens,
            best: best.map(|best| BestHeader { step: best.step, validation: best.validation }),
            matrices_sha256: Some(matrices_sha256),
        };
        serde_json::to_string(&Checksummed(&header)).map_err(AdapterError::json(path))
    }

    pub(super) fn write(&self, path: &Path, run: &RunId) -> Result<(), AdapterError> {
        let mut matrices = MatrixFile::new();
        for (name, matrix) in self.parts(self.best.as_ref().map(|best| &best.adapters)) {
            matrices.insert(name, &floats(matrix.clone()), matrix.dims());
        }
        let header = self.header(path, run, matrices.sha256())?;
        let bytes = matrices
            .encode(KEY, header)
            .map_err(|source| AdapterError::Safetensors { path: path.to_owned(), source })?;
        write_file(path, |file| file.write_all(&bytes)).map_err(AdapterError::io(path))
    }

    /// Names and matrices of a checkpoint whose best step has these LoRAs.
    fn parts<'a>(
        &'a self,
        best: Option<&'a Adapters>,
    ) -> impl Iterator<Item = (String, &'a Tensor<2>)> {
        let current = self.adapters.loras().flat_map(move |(site, lora)| {
            let [a, b] = &self.moments[site];
            [("a", &lora.a, a), ("b", &lora.b, b)].into_iter().flat_map(
                move |(which, weight, moments)| {
                    let parts =
                        [("weight", weight), ("mean", &moments.mean), ("square", &moments.square)];
                    parts.map(|(what, matrix)| (name(site, which, what), matrix))
                },
            )
        });
        let best = best.into_iter().flat_map(Adapters::loras);
        let best = best.flat_map(|(site, lora)| {
            [("a", &lora.a), ("b", &lora.b)]
                .map(|(which, matrix)| (name(site, which, "best"), matrix))
        });
        current.chain(best)
    }

    /// Reads a run's checkpoint; `initial` determines the expected matrices.
    pub(super) fn read(
        path: &Path,
        run: &RunId,
        initial: &Adapters,
        data: TuneData<'_>,
    ) -> Result<Self, AdapterError> {
        let mut file = Matrices::read(path)?;
        let header = header(path, &file)?;
        run.check(path, &header.run)?;
        if let Some(problem) = header.problem(data) {
            return Err(AdapterError::NotACheckpoint { path: path.to_owned(), problem });
        }
        if let Some(stated) = header.matrices_sha256.filter(|stated| stated != file.sha256()) {
            let found = file.sha256().to_owned();
            return Err(AdapterError::Changed { path: path.to_owned(), stated, found });
        }
        let adapters = read_adapters(&mut file, initial, "weight")?;
        let moments = read_moments(&mut file, initial)?;
        let best = match header.best {
            Some(BestHeader { step, validation }) => {
                let adapters = read_adapters(&mut file, initial, "best")?;
                Some(Best { step, adapters, validation })
            }
            None => None,
        };
        file.finish()?;
        Ok(Self { step: header.step, tokens: header.tokens, adapters, moments, best })
    }
}

fn name(site: &Site, which: &str, what: &str) -> String {
    format!("{site}.{which}.{what}")
}

fn header(path: &Path, file: &Matrices) -> Result<Header, AdapterError> {
    let broken = |problem: String| AdapterError::NotACheckpoint { path: path.to_owned(), problem };
    let json = file.metadata(KEY).ok_or_else(|| broken(no_key()))?;
    Checksummed::parse(json.as_bytes()).map_err(|error| match error {
        ChecksumError::Json(error) => broken(error.to_string()),
        changed @ ChecksumError::Changed { .. } => AdapterError::checksum(path)(changed),
    })
}

fn read_adapters(
    file: &mut Matrices,
    like: &Adapters,
    what: &str,
) -> Result<Adapters, AdapterError> {
    let lora = |(site, lora): (&Site, &Lora)| {
        let a = read_matrix(file, &name(site, "a", what), &lora.a)?;
        let b = read_matrix(file, &name(site, "b", what), &lora.b)?;
        Ok((site.clone(), Lora { a, b, scale: lora.scale }))
    };
    like.loras().map(lora).collect()
}

fn read_moments(
    file: &mut Matrices,
    like: &Adapters,
) -> Result<BTreeMap<Site, [Moments; 2]>, AdapterError> {
    let mut moments = |site: &Site, which: &str, like: &Tensor<2>| {
        let mean = read_matrix(file, &name(site, which, "mean"), like)?;
        let square = read_matrix(file, &name(site, which, "square"), like)?;
        Ok(Moments { mean, square })
    };
    let both = |(site, lora): (&Site, &Lora)| {
        Ok((site.clone(), [moments(site, "a", &lora.a)?, moments(site, "b", &lora.b)?]))
    };
    like.loras().map(both).collect()
}

fn read_matrix(
    file: &mut Matrices,
    name: &str,
    like: &Tensor<2>,
) -> Result<Tensor<2>, AdapterError> {
    let (shape, device): ([usize; 2], Device) = (like.dims(), like.device());
    let values = file.take(name, shape)?;
    Ok(Tensor::from_data(TensorData::new(values, shape), &device))
}

fn hash_rows(rows: &[Sequence]) -> String {
    let mut digest = Sha256::new();
    for row in rows {
        digest.update((row.tokens.len() as u64).to_le_bytes());
        for (token, &covered) in row.tokens.iter().zip(&row.completion) {
            digest.update(token.to_le_bytes());
            digest.update([u8::from(covered)]);
        }
        if let Some(encoder) = &row.encoder {
            digest.update((encoder.len() as u64).to_le_bytes());
            encoder.iter().for_each(|token| digest.update(token.to_le_bytes()));
        }
    }
    hex(digest)
}

fn hash_adapters(adapters: &Adapters) -> String {
    let mut digest = Sha256::new();
    for (site, lora) in adapters.loras() {
        digest.update(site.as_str());
        digest.update([0]);
        digest.update(lora.scale.to_le_bytes());
        for matrix in [&lora.a, &lora.b] {
            matrix.dims().iter().for_each(|&dim| digest.update((dim as u64).to_le_bytes()));
            floats(matrix.clone()).iter().for_each(|value| digest.update(value.to_le_bytes()));
        }
    }
    hex(digest)
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
