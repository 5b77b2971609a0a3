//! Merged scores of shards against scores of all rows.

use burn::tensor::Device;
use litemoe_core::{Criterion, ExpertScores, LanguageModel, Sequence, SimilarityKind, sha256_hex};
use litemoe_model::{Checkpoint, Model};
use litemoe_score::{About, ScoreOptions, ShardIndex, score};
use proptest::prelude::*;

/// Checkpoints of different families, one of them an encoder–decoder.
const TINY: [&str; 3] = ["qwen3_moe", "deepseek_v3", "switch_transformers"];

/// Tolerance relative to a layer's largest value where shards are not cut between batches: different batches round f32
/// products differently.
const TOLERANCE: f64 = 1e-5;

struct Tiny {
    model: Model,
    about: About,
}

impl Tiny {
    fn load(name: &str) -> Self {
        let dir = litemoe_fixtures::tiny_dir().with_file_name(name);
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let model = Model::load(&checkpoint, &Device::flex()).unwrap();
        let about = About {
            fingerprint: checkpoint.fingerprint().clone(),
            model: checkpoint.name(),
            family: checkpoint.family().to_owned(),
            program: "0".to_owned(),
        };
        Self { model, about }
    }

    fn score(&self, rows: &[Sequence], options: &ScoreOptions) -> ExpertScores {
        score(&self.model, rows, options, &self.about, drop).unwrap().scores
    }

    /// Rows of different lengths; the second half of each is the completion.
    fn rows(&self, lens: &[usize]) -> Vec<Sequence> {
        let ids = |row: usize, len| {
            (0..len).map(move |i| ((7 * i * i + 31 * i * row + row) % 256) as u32)
        };
        let row = |(row, &len): (usize, &usize)| Sequence {
            tokens: ids(row, len).collect(),
            completion: (0..len).map(|token| 2 * token >= len).collect(),
            encoder: self.model.has_encoder().then(|| ids(row + 1, len + 1).collect()),
        };
        lens.iter().enumerate().map(row).collect()
    }
}

fn options(batch: usize) -> ScoreOptions {
    let similarities = SimilarityKind::ALL.to_vec();
    ScoreOptions { batch, batch_tokens: 40, similarities, ..Default::default() }
}

/// The sums as JSON, without the record of shards.
fn statistics(scores: &ExpertScores) -> String {
    serde_json::to_string(&scores.layers).unwrap()
}

fn merged(mut files: impl Iterator<Item = ExpertScores>) -> ExpertScores {
    let first = files.next().unwrap();
    files.fold(first, |sum, next| {
        // round trip through JSON, as from a file
        let next = ExpertScores::from_json(&serde_json::to_string(&next).unwrap()).unwrap();
        sum.merged(&next).unwrap()
    })
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..12, 4..14)
}

#[test]
fn shards_cut_between_batches_are_one_pass_bit_for_bit() {
    let models = TINY.map(Tiny::load);
    let cases = (lens(), 1usize..4, 1usize..5, any::<prop::sample::Index>());
    proptest!(ProptestConfig::with_cases(24), |((lens, batch, of, turn) in cases)| {
        for tiny in &models {
            let (rows, options) = (tiny.rows(&lens), options(batch));
            let of = of.min(lens.len().div_ceil(batch));
            let shards = (1..=of).map(|index| {
                let shard = ShardIndex::new(index, of).unwrap().rows(&rows, &options).unwrap();
                tiny.score(&rows[shard], &options)
            });
            let mut shards: Vec<ExpertScores> = shards.collect();
            shards.rotate_left(turn.index(of));
            let (whole, sum) = (tiny.score(&rows, &options), merged(shards.into_iter()));
            prop_assert_eq!(statistics(&sum), statistics(&whole));
            prop_assert_eq!((sum.rows(), sum.tokens()), (whole.rows(), whole.tokens()));
            prop_assert_eq!(&sum.shards, &whole.shards);
            prop_assert_eq!(sum.shards.len(), lens.len().div_ceil(batch));
        }
    });
}

#[test]
fn shards_cut_anywhere_are_one_pass_but_for_rounding() {
    let models = TINY.map(Tiny::load);
    proptest!(ProptestConfig::with_cases(16), |(lens in lens(), cut in any::<prop::sample::Index>())| {
        for tiny in &models {
            let (rows, options) = (tiny.rows(&lens), options(3));
            let (first, second) = rows.split_at(1 + cut.index(rows.len() - 1));
            let sum = merged([second, first].iter().map(|rows| tiny.score(rows, &options)));
            let whole = tiny.score(&rows, &options);
            for &layer in whole.layers.keys() {
                for &criterion in Criterion::ALL {
                    let of = |scores: &ExpertScores| scores.of(layer, criterion).unwrap();
                    let (sum, whole) = (of(&sum), of(&whole));
                    let largest = whole.iter().fold(0.0, |largest: f64, &value| largest.max(value));
                    for (x, y) in sum.iter().zip(&whole) {
                        prop_assert!((x - y).abs() <= TOLERANCE * largest, "{criterion}: {x}, {y}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_shard_is_known_by_its_rows() {
    let tiny = Tiny::load(TINY[0]);
    let rows = tiny.rows(&[3, 2]);
    let hash = |rows: &[Sequence]| tiny.score(rows, &options(2)).shards[0].sha256.clone();
    let mut bytes = Vec::new();
    for row in &rows {
        bytes.extend([0u64, row.tokens.len() as u64].map(u64::to_le_bytes).concat());
        bytes.extend(row.tokens.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(row.completion.iter().map(|&covered| u8::from(covered)));
    }
    assert_eq!(hash(&rows), sha256_hex(&bytes));
    let mut other = rows.clone();
    other[1].completion[0] ^= true;
    assert_ne!(hash(&other), hash(&rows));
    other = rows.iter().cloned().rev().collect();
    assert_ne!(hash(&other), hash(&rows));
}

#[test]
fn what_does_not_add_up_is_refused() {
    let [qwen, deepseek, _] = TINY.map(Tiny::load);
    let rows = qwen.rows(&[3, 4, 5]);
    let first = qwen.score(&rows[..1], &options(2));
    let message = |other: &ExpertScores| first.clone().merged(other).unwrap_err().to_string();
    let said = message(&qwen.score(&rows[..1], &options(2)));
    assert!(said.contains("count twice") && said.contains(&first.shards[0].sha256), "{said}");
    let said = message(&deepseek.score(&rows[1..], &options(2)));
    assert!(said.contains(deepseek.about.fingerprint.as_str()), "{said}");
    let other = ScoreOptions { seed: 7, ..options(2) };
    assert!(message(&qwen.score(&rows[1..], &other)).contains("`seed`"));
    let other = ScoreOptions { similarities: vec![], ..options(2) };
    assert!(message(&qwen.score(&rows[1..], &other)).contains("similarities"));
}
