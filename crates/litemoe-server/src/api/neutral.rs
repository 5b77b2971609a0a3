use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Whether a parameter's value has no effect.
type IsNeutral = fn(&Value) -> bool;

/// Parameters of OpenAI's API, of vLLM and of llama-server that are accepted only if they have no effect.
const PARAMETERS: &[&[(&str, IsNeutral)]] = &[OPENAI, VLLM, LLAMA];

const OPENAI: &[(&str, IsNeutral)] = &[
    ("response_format", |format| *format == json!({ "type": "text" })),
    ("functions", is_empty),
    ("function_call", |choice| choice == "none" || choice == "auto"),
    ("modalities", |kinds| *kinds == json!(["text"])),
    ("audio", |_| false),
    ("prediction", |_| false),
    ("reasoning_effort", |_| false),
    ("verbosity", |_| false),
    ("web_search_options", |_| false),
    ("store", is_false),
    // About the client, billing or where a prefix is cached, not about the answer.
    ("user", |_| true),
    ("metadata", |_| true),
    ("safety_identifier", |_| true),
    ("prompt_cache_key", |_| true),
];

const VLLM: &[(&str, IsNeutral)] = &[
    ("echo", is_false),
    ("use_beam_search", is_false),
    ("length_penalty", |penalty| is_number(penalty, 1.0)),
    ("include_stop_str_in_output", is_false),
    ("skip_special_tokens", is_true),
    ("spaces_between_special_tokens", Value::is_boolean),
    ("truncate_prompt_tokens", |_| false),
    ("prompt_logprobs", |_| false),
    ("allowed_token_ids", |_| false),
    ("bad_words", is_empty),
    ("logits_processors", is_empty),
    ("continue_final_message", is_false),
    ("add_generation_prompt", is_true),
    ("chat_template", |_| false),
    ("mm_processor_kwargs", has_no_fields),
    ("media_io_kwargs", has_no_fields),
    ("guided_grammar", |_| false),
    ("guided_decoding_backend", |_| false),
    ("guided_whitespace_pattern", |_| false),
    ("structural_tag", |_| false),
    ("priority", |priority| is_number(priority, 0.0)),
    ("return_token_ids", is_false),
    ("return_tokens_as_token_ids", is_false),
    ("include_reasoning", is_true),
    ("cache_salt", |_| false),
    ("kv_transfer_params", |_| false),
    ("vllm_xargs", has_no_fields),
];

const LLAMA: &[(&str, IsNeutral)] = &[
    ("n_predict", |n| is_number(n, -1.0)),
    ("n_keep", |n| is_number(n, 0.0)),
    ("n_indent", |n| is_number(n, 0.0)),
    ("t_max_predict_ms", |time| is_number(time, 0.0)),
    ("dynatemp_range", |range| is_number(range, 0.0)),
    // Exponents and thresholds of what is turned off.
    ("dynatemp_exponent", Value::is_number),
    ("typical_p", |share| is_number(share, 1.0)),
    ("top_n_sigma", |sigma| sigma.as_f64().is_some_and(|sigma| sigma <= 0.0)),
    ("xtc_probability", |probability| is_number(probability, 0.0)),
    ("xtc_threshold", Value::is_number),
    ("repeat_penalty", |penalty| is_number(penalty, 1.0)),
    // All tokens.
    ("repeat_last_n", |n| is_number(n, -1.0)),
    ("dry_multiplier", |multiplier| is_number(multiplier, 0.0)),
    ("dry_base", Value::is_number),
    ("dry_allowed_length", Value::is_number),
    ("dry_penalty_last_n", Value::is_number),
    ("dry_sequence_breakers", Value::is_array),
    ("mirostat", |version| is_number(version, 0.0)),
    ("mirostat_tau", Value::is_number),
    ("mirostat_eta", Value::is_number),
    ("grammar", |grammar| grammar == ""),
    ("json_schema", has_no_fields),
    ("n_probs", |n| is_number(n, 0.0)),
    ("post_sampling_probs", is_false),
    ("min_keep", |n| is_number(n, 0.0)),
    ("samplers", |_| false),
    ("id_slot", |slot| is_number(slot, -1.0)),
    ("cache_prompt", is_true),
    ("return_tokens", is_false),
    ("return_progress", is_false),
    ("timings_per_token", is_false),
    ("response_fields", is_empty),
    ("image_data", is_empty),
    ("lora", is_empty),
    ("reasoning_format", |format| format == "none"),
];

/// Reads all of them; refuses the first one with an effect, by name.
pub(crate) fn take(fields: &mut Fields) -> Result<(), ApiError> {
    let mut all = PARAMETERS.iter().copied().flatten();
    all.try_for_each(|(name, is_neutral)| fields.neutral(name, is_neutral))
}

fn is_true(value: &Value) -> bool {
    *value == true
}

fn is_false(value: &Value) -> bool {
    *value == false
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn has_no_fields(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// Whether a value is a number, with or without a fraction.
fn is_number(value: &Value, expected: f64) -> bool {
    value.as_f64() == Some(expected)
}
