use serde_json::{Value, json};

use crate::client::{answer, chunks, serving};
use crate::toy::{Step, Toy, tokens};

const TEXT: &str = "Größe 🙂: on\n\noff";

fn bytes(entries: &[Value]) -> Vec<u8> {
    let bytes = entries.iter().flat_map(|entry| entry["bytes"].as_array().unwrap());
    bytes.map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()).collect()
}

/// Logprob entries of a choice, streamed or whole.
fn entries(choice: &Value) -> Vec<Value> {
    choice["logprobs"]["content"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn every_token_is_told_with_its_bytes() {
    let router = serving(Toy::saying(TEXT));
    let answer = answer(&router, &json!({ "logprobs": true, "top_logprobs": 3 })).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["logprobs"]["refusal"], Value::Null);
    let entries = entries(choice);
    assert_eq!(entries.len(), tokens(TEXT).len());
    assert_eq!(bytes(&entries), TEXT.as_bytes());
    for entry in &entries {
        // The toy's probability is 1.
        assert_eq!(entry["logprob"], 0.0);
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        for key in ["token", "logprob", "bytes"] {
            assert_eq!(top[0][key], entry[key]);
        }
        assert!(top[1]["logprob"].as_f64().unwrap() < -9e3);
    }
}

#[tokio::test]
async fn they_are_the_models_own_whatever_the_sampling() {
    let router = serving(Toy::doing(vec![Step::Babble; 8]));
    let fields = json!({
        "logprobs": true, "temperature": 0.3, "top_k": 5, "frequency_penalty": 2, "max_tokens": 8,
    });
    let entries = entries(&answer(&router, &fields).await["choices"][0]);
    assert_eq!(entries.len(), 8);
    for entry in entries {
        let expected = (1.0 / 58f64).ln();
        assert!((entry["logprob"].as_f64().unwrap() - expected).abs() < 1e-5, "{entry}");
        assert_eq!(entry["top_logprobs"], json!([]));
    }
}

#[tokio::test]
async fn without_asking_there_are_none() {
    let router = serving(Toy::saying(TEXT));
    for fields in [json!({}), json!({ "logprobs": false, "top_logprobs": 0 })] {
        assert_eq!(answer(&router, &fields).await["choices"][0]["logprobs"], Value::Null);
    }
    for chunk in chunks(&router, &json!({ "stream": true })).await {
        assert_eq!(chunk["choices"][0]["logprobs"], Value::Null);
    }
}

#[tokio::test]
async fn a_stream_tells_them_with_the_text_they_are_of() {
    let router = serving(Toy::saying(TEXT));
    for stop in [json!(null), json!(": on\n")] {
        let mut fields = json!({ "logprobs": true, "top_logprobs": 1, "stop": stop });
        let whole = entries(&answer(&router, &fields).await["choices"][0]);
        fields["stream"] = true.into();
        let chunks = chunks(&router, &fields).await;
        let (mut streamed, mut text) = (Vec::new(), String::new());
        for choice in chunks.iter().map(|chunk| &chunk["choices"][0]) {
            text += choice["delta"]["content"].as_str().unwrap_or_default();
            streamed.extend(entries(choice));
            assert!(bytes(&streamed).starts_with(text.as_bytes()), "{text:?}");
        }
        assert_eq!(streamed, whole);
        let begun = if stop.is_null() { TEXT } else { "Größe 🙂" };
        assert_eq!((text.as_str(), bytes(&streamed)), (begun, begun.as_bytes().to_vec()));
    }
}
