use burn::tensor::Device;
use litemoe_core::{CausalLm, Decoding, Sampler, Sampling};
use litemoe_model::{Checkpoint, Model};
use litemoe_server::{Server, ServerOptions};
use litemoe_text::Message;
use serde_json::json;

use crate::client::{chat, post, read};
use crate::toy::tokenizer;

#[tokio::test]
async fn the_foundation_says_what_it_says_without_a_server() {
    let load = || {
        let checkpoint = Checkpoint::open(litemoe_fixtures::foundation_dir()).unwrap();
        Model::load(&checkpoint, &Device::flex()).unwrap()
    };
    let question =
        "Problem: Tom has 3 apples and buys 4 more. How many apples does he have?\nSolution:";
    let router = Server::new("foundation", load(), tokenizer(), ServerOptions::default())
        .unwrap()
        .into_router();
    let drawn =
        Sampling { temperature: 1.0, top_p: 0.9, top_k: 50, seed: 11, ..Sampling::default() };
    let penalised = Sampling {
        min_p: 0.02,
        repetition_penalty: 1.2,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: [(50, 2.0)].into(),
        ..drawn.clone()
    };
    for sampling in [Sampling::default(), drawn, penalised] {
        let (tokenizer, model) = (tokenizer(), load());
        let prompt = tokenizer.encode_prompt(&[Message::user(question)]).unwrap();
        let (mut cache, sampler) = (model.new_cache(), Sampler::new(sampling.clone()));
        let drawn: Vec<u32> = Decoding::new(&model, None, &prompt, &mut cache, 0, sampler)
            .map(|drawn| drawn.unwrap().token)
            .take_while(|token| !model.eos_ids().contains(token))
            .take(24)
            .collect();
        let fields = json!({
            "model": "foundation", "messages": [{ "role": "user", "content": question }], "max_tokens": 24,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
            "seed": sampling.seed, "min_p": sampling.min_p, "logit_bias": sampling.logit_bias,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        });
        let answer = read(post(&router, &chat(&fields)).await).await;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.len() > 3, "{text:?}");
        // The template puts a space before an answer, which is no part of it.
        let decoded = tokenizer.decode(&drawn).unwrap();
        assert_eq!(text, decoded.strip_prefix(' ').unwrap_or(&decoded));
    }
}
