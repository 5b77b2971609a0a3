use burn::tensor::Device;
use litemoe_core::{Sampler, Sampling};
use litemoe_model::{Checkpoint, Model, Stop, generate};
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
    for sampling in
        [Sampling::default(), Sampling { temperature: 1.0, top_p: 0.9, top_k: 50, seed: 11 }]
    {
        let (tokenizer, model) = (tokenizer(), load());
        let prompt = tokenizer.encode_prompt(&[Message::user(question)]).unwrap();
        let stop = Stop { max_new: 24, eos_ids: model.eos_ids() };
        let mut sampler = Sampler::new(sampling);
        let (drawn, _) = generate(&model, None, &prompt, &mut sampler, stop, |_| true);
        let fields = json!({
            "model": "foundation", "messages": [{ "role": "user", "content": question }], "max_tokens": 24,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
            "seed": sampling.seed,
        });
        let answer = read(post(&router, &chat(&fields)).await).await;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.len() > 3, "{text:?}");
        assert_eq!(text, tokenizer.decode(&drawn).unwrap());
    }
}
