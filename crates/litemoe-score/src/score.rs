use std::collections::BTreeMap;

use litemoe_core::{
    ExpertScores, Fingerprint, LanguageModel, LayerId, LayerSums, SCORES_VERSION, ScoreOrigin,
    TokenRow, batches, sha256_hex,
};

use crate::batches::{Row, rounds};
use crate::shard::shards_of;
use crate::{Measurement, ScoreError, ScoreOptions, Warning};

/// Provenance of the scores: the model and the program that scores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The model's fingerprint.
    pub fingerprint: Fingerprint,
    /// The model's name.
    pub model: String,
    /// Its `model_type`.
    pub family: String,
    /// Version of the scoring program.
    pub program: String,
}

/// Result of [`score`].
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The sums of every expert, for every criterion and the requested similarities.
    pub scores: ExpertScores,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
}

/// Measures expert scores: the sums of every [`Criterion`](litemoe_core::Criterion) and of the requested similarities,
/// in one forward pass over `rows` of token ids, [block by block](Measurement::add_batches).
///
/// `progress` receives the cumulative count of rows times blocks, `rows.len() * model.n_blocks()` at the end.
///
/// # Errors
/// Before anything is computed: a row that the model cannot take. Later: a value that is not finite, naming layer and
/// expert.
pub fn score(
    model: &(impl LanguageModel + ?Sized),
    rows: &[impl TokenRow],
    options: &ScoreOptions,
    about: &About,
    mut progress: impl FnMut(usize),
) -> Result<Scored, ScoreError> {
    let rows: Vec<Row<'_>> = rows.iter().map(Row::of).collect();
    check(model, &rows, options)?;
    let mut measurement = Measurement::new(model.moe_layers(), &options.similarities);
    let mut done = 0;
    for batches in rounds(batches(&rows, options.limits()), options.held_tokens) {
        measurement.add_batches(model, &batches, |rows| {
            done += rows;
            progress(done);
        })?;
    }
    measurement.check_reported()?;
    Ok(report(measurement, &rows, options, about))
}

pub(crate) fn check(
    model: &(impl LanguageModel + ?Sized),
    rows: &[Row<'_>],
    options: &ScoreOptions,
) -> Result<(), ScoreError> {
    if options.batch == 0 {
        return Err(ScoreError::EmptyBatch);
    }
    if !(0.0..=1.0).contains(&options.kappa) {
        return Err(ScoreError::Kappa { kappa: options.kappa });
    }
    if model.moe_layers().is_empty() {
        return Err(ScoreError::NoExperts);
    }
    if rows.is_empty() {
        return Err(ScoreError::NoRows);
    }
    (0..).zip(rows).try_for_each(|(index, row)| check_row(model, index, row))
}

fn check_row(
    model: &(impl LanguageModel + ?Sized),
    index: usize,
    row: &Row<'_>,
) -> Result<(), ScoreError> {
    if row.encoder.is_some() != model.has_encoder() {
        return Err(ScoreError::Encoder { row: index, needed: model.has_encoder() });
    }
    let sides = std::iter::once(row.tokens).chain(row.encoder);
    sides.into_iter().try_for_each(|ids| check_ids(index, ids, model.max_tokens(), model.vocab()))
}

fn check_ids(row: usize, ids: &[u32], max_tokens: usize, vocab: usize) -> Result<(), ScoreError> {
    if ids.is_empty() {
        return Err(ScoreError::EmptyRow { row });
    }
    if ids.len() > max_tokens {
        return Err(ScoreError::LongRow { row, tokens: ids.len(), max_tokens });
    }
    match ids.iter().find(|&&token| token as usize >= vocab) {
        Some(&token) => Err(ScoreError::UnknownToken { row, token, vocab }),
        None => Ok(()),
    }
}

/// Scores of sums; of no shards, not private.
pub(crate) fn scores_of(
    layers: BTreeMap<LayerId, LayerSums>,
    options: &ScoreOptions,
    about: &About,
) -> ExpertScores {
    ExpertScores {
        version: SCORES_VERSION,
        program: about.program.clone(),
        fingerprint: about.fingerprint.clone(),
        model: about.model.clone(),
        family: about.family.clone(),
        origin: ScoreOrigin::Measured,
        shards: Vec::new(),
        input_sha256: String::new(),
        batch: options.batch,
        batch_tokens: options.batch_tokens,
        seed: options.seed,
        kappa: options.kappa,
        privacy: None,
        layers,
    }
}

fn report(
    measurement: Measurement,
    rows: &[Row<'_>],
    options: &ScoreOptions,
    about: &About,
) -> Scored {
    let scores = ExpertScores {
        shards: shards_of(rows, options),
        input_sha256: input_sha256(rows),
        ..scores_of(measurement.into_layers(), options, about)
    };
    let warnings = Warning::of_rows(scores.rows()).into_iter().collect();
    Scored { scores, warnings }
}

/// SHA-256 over all token ids as little-endian u32, in order, a row's encoder ids before its decoder ids.
fn input_sha256(rows: &[Row<'_>]) -> String {
    let ids = rows.iter().flat_map(|row| row.encoder.into_iter().chain([row.tokens]).flatten());
    let bytes: Vec<u8> = ids.flat_map(|id| id.to_le_bytes()).collect();
    sha256_hex(&bytes)
}
