use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Whether a parameter's value changes nothing.
type IsNeutral = fn(&Value) -> bool;

/// Parameters of OpenAI's interface, and of others like it, that are taken only when they change nothing.
const PARAMETERS: &[(&str, IsNeutral)] = &[
    ("n", |n| is_number(n, 1.0)),
    ("logprobs", |logprobs| *logprobs == false),
    ("top_logprobs", |n| is_number(n, 0.0)),
    ("logit_bias", is_empty),
    ("presence_penalty", |penalty| is_number(penalty, 0.0)),
    ("frequency_penalty", |penalty| is_number(penalty, 0.0)),
    ("repetition_penalty", |penalty| is_number(penalty, 1.0)),
    ("min_p", |p| is_number(p, 0.0)),
    ("response_format", |format| *format == json!({ "type": "text" })),
    ("tools", is_empty),
    ("tool_choice", |choice| choice == "none" || choice == "auto"),
    ("functions", is_empty),
    ("function_call", |choice| choice == "none" || choice == "auto"),
    ("modalities", |kinds| *kinds == json!(["text"])),
    ("audio", |_| false),
    ("prediction", |_| false),
    ("reasoning_effort", |_| false),
    ("web_search_options", |_| false),
    ("store", |store| *store == false),
    // About the client, or about how it is billed and scheduled, not about the answer.
    ("user", |_| true),
    ("metadata", |_| true),
    ("service_tier", |_| true),
    ("parallel_tool_calls", |_| true),
];

/// Takes them all; refuses the first that changes something, by its name.
pub(crate) fn take(fields: &mut Fields) -> Result<(), ApiError> {
    PARAMETERS.iter().try_for_each(|(name, is_neutral)| fields.neutral(name, is_neutral))
}

fn is_empty(value: &Value) -> bool {
    let object = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    value.as_array().is_some_and(Vec::is_empty) || object(value)
}

fn is_number(value: &Value, number: f64) -> bool {
    value.as_f64() == Some(number)
}
