use burn::tensor::{Device, Tensor};
use litemoe_core::{
    Input, LanguageModel, LayerId, LinearSite, MoeLayer, MoeModel, Pass, SimilarityKind, Stream,
};
use litemoe_score::{Measurement, ScoreError, ScoreOptions, ShardIndex, score};

use crate::properties::about;
use crate::toy::{MAX_TOKENS, Shape, Toy, VOCAB};

fn toy() -> Toy {
    Toy::random(Shape { blocks: 2, n_experts: 3, top_k: 3 }, 1)
}

fn refusal(rows: &[Vec<u32>], options: &ScoreOptions) -> ScoreError {
    score(&toy(), rows, options, &about(), |_| panic!("something was computed")).unwrap_err()
}

#[test]
fn rows_that_the_model_cannot_take_are_refused_before_any_work() {
    let options = ScoreOptions::default();
    let fine = vec![1, 2];
    assert_eq!(refusal(&[], &options), ScoreError::NoRows);
    assert_eq!(refusal(&[fine.clone(), vec![]], &options), ScoreError::EmptyRow { row: 1 });
    let (tokens, max_tokens) = (MAX_TOKENS + 1, MAX_TOKENS);
    let long = vec![0; tokens];
    let expected = ScoreError::LongRow { row: 1, tokens, max_tokens };
    assert_eq!(refusal(&[fine.clone(), long], &options), expected);
    let (token, vocab) = (VOCAB as u32, VOCAB);
    let expected = ScoreError::UnknownToken { row: 0, token, vocab };
    assert_eq!(refusal(&[vec![0, token], fine], &options), expected);
}

#[test]
fn options_outside_their_range_are_refused() {
    let rows = [vec![1, 2]];
    let batch = ScoreOptions { batch: 0, ..Default::default() };
    assert_eq!(refusal(&rows, &batch), ScoreError::EmptyBatch);
    for kappa in [-0.1, 1.1, f64::NAN] {
        let options = ScoreOptions { kappa, ..Default::default() };
        assert!(matches!(refusal(&rows, &options), ScoreError::Kappa { .. }));
    }
}

#[test]
fn a_value_that_is_not_finite_is_refused_by_layer_and_expert() {
    let mut model = toy();
    let down = &mut model.blocks[1].experts[2].down;
    *down = down.clone().mul_scalar(f32::NAN);
    let error = score(&model, &[[1u32, 2]], &ScoreOptions::default(), &about(), drop).unwrap_err();
    let expert = LayerId::decoder(1).expert(2);
    assert_eq!(error, ScoreError::NotFinite { expert, what: "output" });
    assert_eq!(error.to_string(), "layer 1 expert 2: its output is not a finite number");
}

#[test]
fn measurements_of_different_things_do_not_add_up() {
    let other = Toy::random(Shape { blocks: 1, n_experts: 3, top_k: 3 }, 1);
    let mut sum = Measurement::new(toy().moe_layers(), &[SimilarityKind::Affinity]);
    for other in [
        Measurement::new(other.moe_layers(), &[SimilarityKind::Affinity]),
        Measurement::new(toy().moe_layers(), &[]),
    ] {
        assert_eq!(sum.merge(&other), Err(ScoreError::OtherMeasurement));
    }
}

/// A model whose later blocks report nothing to the observer.
struct Silent(Toy);

impl MoeModel for Silent {
    fn moe_layers(&self) -> &[MoeLayer] {
        self.0.moe_layers()
    }

    fn linear_sites(&self) -> &[LinearSite] {
        &[]
    }
}

impl LanguageModel for Silent {
    fn device(&self) -> Device {
        self.0.device()
    }

    fn vocab(&self) -> usize {
        self.0.vocab()
    }

    fn max_tokens(&self) -> usize {
        self.0.max_tokens()
    }

    fn embed(&self, input: &Input) -> Stream {
        self.0.embed(input)
    }

    fn n_blocks(&self) -> usize {
        self.0.n_blocks()
    }

    fn block(&self, index: usize, stream: Stream, pass: &mut Pass<'_>) -> Stream {
        match index {
            0 => self.0.block(index, stream, pass),
            _ => self.0.block(index, stream, &mut Pass::plain()),
        }
    }

    fn head(&self, hidden: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        self.0.head(hidden, pass)
    }
}

#[test]
fn a_layer_that_the_model_does_not_report_is_refused() {
    let options = ScoreOptions::default();
    let error = score(&Silent(toy()), &[[1u32, 2]], &options, &about(), drop).unwrap_err();
    assert_eq!(error, ScoreError::Unreported { layer: LayerId::decoder(1) });
}

#[test]
fn a_shard_that_is_not_there_is_refused() {
    for text in ["0/3", "4/3", "1/0", "2", "a/b", "1/2/3", "-1/2", ""] {
        let error = text.parse::<ShardIndex>().unwrap_err();
        assert_eq!(error, ScoreError::NoSuchShard { given: text.into() });
    }
    let rows = vec![vec![1u32]; 7];
    let options = ScoreOptions { batch: 2, ..Default::default() };
    let of = |text: &str| text.parse::<ShardIndex>().unwrap().rows(&rows, &options);
    assert_eq!(of("4/4"), Ok(6..7));
    assert_eq!(of("1/5"), Err(ScoreError::FewBatches { shards: 5, batches: 4 }));
    assert!(of(&format!("1/{}", usize::MAX)).is_err());
}
