//! Fields of vLLM's and llama-server's requests: each is applied, has no effect, or is refused by name.

use axum::Router;
use axum::body::Body;
use serde_json::{Value, json};

use crate::client::{chat, read, send, serving};
use crate::toy::Toy;

/// Fields with a value that changes nothing, and one that would change something, where there are such values.
fn table() -> Vec<(&'static str, Option<Value>, Option<Value>)> {
    let both = |name, neutral: Value, other: Value| (name, Some(neutral), Some(other));
    let other = |name, other: Value| (name, None, Some(other));
    let unused = |name, neutral: Value| (name, Some(neutral), None);
    vec![
        // vLLM, sampling.
        both("best_of", json!(1), json!(2)),
        both("use_beam_search", json!(false), json!(true)),
        both("length_penalty", json!(1.0), json!(0.5)),
        both("include_stop_str_in_output", json!(false), json!(true)),
        both("skip_special_tokens", json!(true), json!(false)),
        unused("spaces_between_special_tokens", json!(true)),
        other("truncate_prompt_tokens", json!(5)),
        other("prompt_logprobs", json!(0)),
        other("allowed_token_ids", json!([50])),
        both("bad_words", json!([]), json!(["a"])),
        both("logits_processors", json!([]), json!(["a.b"])),
        other("logprob_token_ids", json!([50])),
        other("thinking_token_budget", json!(5)),
        // vLLM, others.
        both("continue_final_message", json!(false), json!(true)),
        both("add_generation_prompt", json!(true), json!(false)),
        other("chat_template", json!("{{ messages }}")),
        both("mm_processor_kwargs", json!({}), json!({ "a": 1 })),
        both("media_io_kwargs", json!({}), json!({ "a": 1 })),
        other("guided_grammar", json!("root ::= \"a\"")),
        other("guided_decoding_backend", json!("outlines")),
        other("guided_whitespace_pattern", json!(" ")),
        other("structural_tag", json!("{}")),
        both("priority", json!(0), json!(1)),
        both("return_token_ids", json!(false), json!(true)),
        both("return_tokens_as_token_ids", json!(false), json!(true)),
        both("include_reasoning", json!(true), json!(false)),
        other("cache_salt", json!("a")),
        other("kv_transfer_params", json!({})),
        both("vllm_xargs", json!({}), json!({ "a": 1 })),
        other("request_id", json!("a")),
        // llama-server.
        both("n_predict", json!(-1), json!(5)),
        both("n_keep", json!(0), json!(-1)),
        both("n_indent", json!(0), json!(2)),
        other("n_discard", json!(1)),
        other("n_cmpl", json!(2)),
        both("t_max_predict_ms", json!(0), json!(5)),
        both("dynatemp_range", json!(0), json!(0.5)),
        unused("dynatemp_exponent", json!(1.5)),
        both("typical_p", json!(1.0), json!(0.9)),
        both("top_n_sigma", json!(-1), json!(1)),
        both("xtc_probability", json!(0), json!(0.5)),
        unused("xtc_threshold", json!(0.1)),
        both("repeat_penalty", json!(1.0), json!(1.1)),
        both("repeat_last_n", json!(-1), json!(64)),
        both("dry_multiplier", json!(0), json!(0.8)),
        unused("dry_base", json!(1.75)),
        unused("dry_allowed_length", json!(2)),
        unused("dry_penalty_last_n", json!(-1)),
        unused("dry_sequence_breakers", json!(["\n"])),
        both("mirostat", json!(0), json!(2)),
        unused("mirostat_tau", json!(5.0)),
        unused("mirostat_eta", json!(0.1)),
        other("adaptive_target", json!(0.5)),
        both("grammar", json!(""), json!("root ::= \"a\"")),
        both("json_schema", json!({}), json!({ "type": "string" })),
        both("n_probs", json!(0), json!(5)),
        both("post_sampling_probs", json!(false), json!(true)),
        both("min_keep", json!(0), json!(1)),
        other("samplers", json!(["top_k"])),
        both("id_slot", json!(-1), json!(0)),
        both("cache_prompt", json!(true), json!(false)),
        both("return_tokens", json!(false), json!(true)),
        both("return_progress", json!(false), json!(true)),
        both("timings_per_token", json!(false), json!(true)),
        both("response_fields", json!([]), json!(["content"])),
        both("image_data", json!([]), json!([{}])),
        both("lora", json!([]), json!([{ "id": 0, "scale": 1 }])),
        both("reasoning_format", json!("none"), json!("deepseek")),
        other("reasoning_budget", json!(0)),
        other("parse_tool_calls", json!(true)),
        other("thinking_forced_open", json!(true)),
        other("speculative.n_max", json!(4)),
        other("backend_sampling", json!(true)),
    ]
}

async fn ask(router: &Router, path: &str, name: &str, value: &Value) -> (u16, Value) {
    let mut body = match path {
        "/v1/completions" => json!({ "model": "toy", "prompt": "<|assistant|>" }),
        _ => chat(&json!({})),
    };
    body[name] = value.clone();
    let response = send(router, "POST", path, Body::from(body.to_string())).await;
    let status = response.status().as_u16();
    let mut answer = read(response).await;
    if status == 200 {
        answer["id"].take();
        answer["created"].take();
        answer["usage"]["prompt_tokens_details"].take();
    }
    (status, answer)
}

#[tokio::test]
async fn a_field_of_others_changes_nothing_or_is_refused_by_name() {
    let router = serving(Toy::saying("yes"));
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let (status, plain) = ask(&router, path, "seed", &Value::Null).await;
        assert_eq!(status, 200);
        let is_chat = path == "/v1/chat/completions";
        let mut table = table();
        table.push(("add_special_tokens", Some(json!(!is_chat)), Some(json!(is_chat))));
        if is_chat {
            table.push(("echo", Some(json!(false)), Some(json!(true))));
        } else {
            table.push(("suffix", Some(json!("")), Some(json!("a"))));
        }
        for (name, neutral, other) in table {
            for value in [Some(Value::Null), neutral].into_iter().flatten() {
                let (status, answer) = ask(&router, path, name, &value).await;
                // A name that is not known is refused with any value.
                if status == 400
                    && value.is_null()
                    && answer["error"]["code"] == "unknown_parameter"
                {
                    continue;
                }
                assert_eq!((status, &answer), (200, &plain), "{name} {value}");
            }
            if let Some(value) = other {
                let (status, answer) = ask(&router, path, name, &value).await;
                let error = &answer["error"];
                assert_eq!((status, &error["param"]), (400, &json!(name)), "{name} {value}");
                assert!(error["message"].as_str().unwrap().contains(name), "{error}");
            }
        }
    }
}
