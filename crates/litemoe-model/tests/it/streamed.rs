//! A streamed model equals the model in memory.

use burn::tensor::Device;
use litemoe_core::{CausalLm, Input, LanguageModel, MoeModel, Pass};
use litemoe_model::{Checkpoint, Model};

use crate::setup::{TINY, load, logits, row, tiny, values};

fn stream(name: &str) -> Model {
    Model::stream(&Checkpoint::open(tiny(name)).unwrap(), &Device::flex()).unwrap()
}

#[test]
fn logits_are_equal_bit_for_bit() {
    for name in TINY {
        let rows = [row(20), row(7)];
        assert_eq!(logits(&stream(name), &rows), logits(&load(tiny(name)), &rows), "{name}");
    }
}

#[test]
fn blocks_can_be_run_in_any_order() {
    let (model, loaded) = (stream("windowed"), load(tiny("windowed")));
    for index in [2, 0, 0, 1, 2] {
        let run = |model: &Model| {
            let first = model.embed(&Input::decoder(vec![row(5)]));
            values(&model.block(index, first, &mut Pass::plain()).hidden)
        };
        assert_eq!(run(&model), run(&loaded), "block {index}");
    }
}

#[test]
fn sites_layers_and_sizes_are_those_of_the_model_in_memory() {
    for name in TINY {
        let (model, loaded) = (stream(name), load(tiny(name)));
        assert_eq!(model.linear_sites(), loaded.linear_sites(), "{name}");
        assert_eq!(model.moe_layers(), loaded.moe_layers(), "{name}");
        assert_eq!(model.n_blocks(), loaded.n_blocks(), "{name}");
    }
}

#[test]
fn it_can_be_decoded_from() {
    let next = |model: &Model| values(&model.extend(&row(9), &mut model.new_cache(), None));
    assert_eq!(next(&stream("qwen3_moe")), next(&load(tiny("qwen3_moe"))));
}
