use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{answer, chunks, content, serving};
use crate::toy::{Step, Toy, gate, tokens};

fn babble(steps: usize) -> Toy {
    Toy::doing(vec![Step::Babble; steps])
}

fn texts(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().unwrap().iter().enumerate();
    let text = |(index, choice): (usize, &Value)| {
        assert_eq!(choice["index"], index);
        choice["message"]["content"].as_str().unwrap().to_owned()
    };
    choices.map(text).collect()
}

#[tokio::test]
async fn several_texts_of_one_seed_differ_and_the_first_is_the_only_one() {
    let router = serving(babble(12));
    let several = answer(&router, &json!({ "n": 3, "temperature": 1, "seed": 5 })).await;
    let texts = texts(&several);
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(texts[0], content(&router, &json!({ "temperature": 1, "seed": 5 })).await);
    assert_eq!(several, {
        let mut again = answer(&router, &json!({ "n": 3, "temperature": 1, "seed": 5 })).await;
        again["id"] = several["id"].clone();
        again["created"] = several["created"].clone();
        again
    });
    let n_prompt = tokens("<|user|>hi<|assistant|>").len();
    assert_eq!(several["usage"]["prompt_tokens"], n_prompt);
    assert_eq!(several["usage"]["completion_tokens"], 3 * 13);
}

#[tokio::test]
async fn several_texts_are_streamed_by_their_index() {
    let router = serving(babble(12));
    let mut fields = json!({ "n": 3, "temperature": 1, "seed": 5, "stop": ["a", "e"] });
    let whole = texts(&answer(&router, &fields).await);
    fields["stream"] = true.into();
    fields["stream_options"] = json!({ "include_usage": true });
    let chunks = chunks(&router, &fields).await;
    let (usage, chunks) = chunks.split_last().unwrap();
    assert_eq!((&usage["choices"], usage["usage"].is_object()), (&json!([]), true));
    for (index, whole) in whole.iter().enumerate() {
        let own = chunks.iter().map(|chunk| &chunk["choices"][0]);
        let own: Vec<_> = own.filter(|choice| choice["index"] == index).collect();
        let text = |choice: &&Value| choice["delta"]["content"].as_str().map(str::to_owned);
        assert_eq!(own[0]["delta"]["role"], "assistant");
        assert_eq!(own.iter().filter_map(text).collect::<String>(), *whole);
        let ended = own.iter().filter(|choice| !choice["finish_reason"].is_null()).count();
        assert_eq!((ended, own.last().unwrap()["finish_reason"].is_null()), (1, false));
    }
}

#[tokio::test]
async fn the_prompt_is_run_once_for_all_texts_and_they_share_their_steps() {
    let (gate, mut keeper) = gate();
    drop(keeper.permits);
    let router = serving(Toy { gate: Some(gate), ..babble(3) });
    answer(&router, &json!({ "n": 4, "max_tokens": 3 })).await;
    let mut steps = 0;
    while keeper.entered.try_recv().is_ok() {
        steps += 1;
    }
    // One step for the prompt without its last token, then one token of each text per step.
    assert_eq!(steps, 1 + 3);
}

#[tokio::test]
async fn a_bias_decides() {
    let router = serving(babble(6));
    let letter = tokens("x")[0];
    let only = json!({ "logit_bias": { letter.to_string(): 100 } });
    assert_eq!(content(&router, &only).await, "xxxxxx");
    let never = json!({ "logit_bias": { letter.to_string(): -100 }, "n": 20 });
    assert!(texts(&answer(&router, &never).await).iter().all(|text| !text.contains('x')));
}

#[tokio::test]
async fn penalties_keep_greedy_texts_from_repeating() {
    let router = serving(babble(20));
    let distinct = |text: &str| text.chars().collect::<BTreeSet<_>>().len();
    let plain = content(&router, &json!({ "temperature": 0 })).await;
    assert_eq!(distinct(&plain), 1);
    for name in ["presence_penalty", "frequency_penalty"] {
        let text = content(&router, &json!({ "temperature": 0, name: 0.5 })).await;
        assert_eq!(distinct(&text), 20, "{name}: {text}");
    }
}
