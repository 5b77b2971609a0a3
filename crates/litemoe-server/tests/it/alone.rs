//! A request's answer does not depend on what else is in the batch, or on what is cached.

use std::collections::BTreeMap;

use axum::Router;
use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{Adapters, BiasStage, Lora, MoeModel, MountedAdapter, RouterBias, WeightDtype};
use litemoe_model::{Checkpoint, Model};
use litemoe_server::{Server, ServerOptions};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::client::{post, read};
use crate::toy::tokenizer;

/// Names of the foundation with each adapter, and without one.
const MODELS: [&str; 4] = ["foundation", "one", "two", "three"];

const WORDS: [&str; 11] =
    ["Turn", "on", "the", "lights", "in", "attic", "7", "apples", "and", "ß🙂", "?"];

/// Number of random requests.
const N: usize = 200;

fn model() -> Model {
    let checkpoint = Checkpoint::open(litemoe_fixtures::foundation_dir()).unwrap();
    // Of packed weights the kernels promise the same bits for every batch.
    Model::load_as(&checkpoint, &Device::flex(), WeightDtype::Q8).unwrap()
}

/// An adapter of every attention projection and some experts, with a router bias.
fn adapter(model: &Model, seed: u64) -> MountedAdapter {
    let mut n_drawn = 1000 * seed;
    let mut random = |shape: [usize; 2]| {
        n_drawn += 1;
        let values = litemoe_fixtures::uniform(n_drawn, shape.iter().product());
        let tensor = Tensor::<2>::from_data(TensorData::new(values, shape), &Device::flex());
        tensor.mul_scalar(0.1)
    };
    let sites =
        model.linear_sites().iter().enumerate().filter(|(index, site)| {
            !site.role.is_expert() || (*index as u64).is_multiple_of(7 + seed)
        });
    let loras = sites.map(|(_, site)| {
        let lora = Lora { a: random([site.d_in, 4]), b: random([4, site.d_out]), scale: 0.5 };
        (site.site.clone(), lora)
    });
    let adapters = Adapters::from_iter(loras);
    let biases: BTreeMap<_, _> = model
        .moe_layers()
        .iter()
        .map(|layer| {
            let of =
                |expert: usize| if (expert as u64 + seed).is_multiple_of(3) { -2.0 } else { 0.0 };
            (layer.id, (0..layer.n_experts).map(of).collect())
        })
        .collect();
    let router_bias = Some(RouterBias::new(BiasStage::Logits, biases).unwrap());
    MountedAdapter { adapters, router_bias }
}

fn serving(options: ServerOptions) -> Router {
    let model = model();
    let adapters: Vec<_> = (1..4).map(|seed| adapter(&model, seed)).collect();
    let mut server = Server::new(MODELS[0], model, tokenizer(), options).unwrap();
    for (name, adapter) in MODELS[1..].iter().zip(adapters) {
        server = server.with_adapter(*name, adapter).unwrap();
    }
    server.into_router()
}

fn request() -> impl Strategy<Value = Value> {
    let text = prop::collection::vec(prop::sample::select(&WORDS), 1..60);
    let temperature = prop_oneof![Just(0.0), Just(0.7), Just(1.3)];
    (
        prop::sample::select(&MODELS),
        text,
        (temperature, 0u64..1000, 0usize..40, 0.5f64..1.0),
        1usize..24,
        1usize..3,
        any::<bool>(),
    )
        .prop_map(
            |(model, text, (temperature, seed, top_k, top_p), max_tokens, n, penalised)| {
                json!({
                    "model": model, "messages": [{ "role": "user", "content": text.join(" ") }],
                    "temperature": temperature, "seed": seed, "top_k": top_k, "top_p": top_p,
                    "max_tokens": max_tokens, "n": n, "logprobs": true,
                    "frequency_penalty": if penalised { 0.4 } else { 0.0 },
                })
            },
        )
}

async fn choices(router: &Router, request: &Value) -> Value {
    let mut answer = read(post(router, request).await).await;
    assert!(answer["choices"].is_array(), "{answer}");
    answer["choices"].take()
}

#[tokio::test]
async fn two_hundred_random_requests_alone_and_together_give_the_same_tokens() {
    let mut runner = TestRunner::default();
    let drawn: Vec<Value> =
        (0..N).map(|_| request().new_tree(&mut runner).unwrap().current()).collect();
    // Without memory for prefixes every request is computed from its beginning.
    let alone = serving(ServerOptions { max_cache: 0, ..ServerOptions::default() });
    let mut expected = Vec::new();
    for request in &drawn {
        expected.push(choices(&alone, request).await);
    }
    let options = ServerOptions { max_queued: N.try_into().unwrap(), ..ServerOptions::default() };
    let together = serving(options);
    for _ in 0..2 {
        // The second time most of each prompt is cached.
        let running = drawn.iter().cloned().map(|request| {
            let router = together.clone();
            tokio::spawn(async move { choices(&router, &request).await })
        });
        let running: Vec<_> = running.collect();
        for ((found, expected), request) in running.into_iter().zip(&expected).zip(&drawn) {
            assert_eq!(&found.await.unwrap(), expected, "{request}");
        }
    }
}
