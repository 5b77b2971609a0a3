use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Whether a parameter's value has no effect.
type IsNeutral = fn(&Value) -> bool;

/// Parameters of OpenAI's and similar APIs that are accepted only if they have no effect.
const PARAMETERS: &[(&str, IsNeutral)] = &[
    ("response_format", |format| *format == json!({ "type": "text" })),
    ("functions", is_empty),
    ("function_call", |choice| choice == "none" || choice == "auto"),
    ("modalities", |kinds| *kinds == json!(["text"])),
    ("audio", |_| false),
    ("prediction", |_| false),
    ("reasoning_effort", |_| false),
    ("web_search_options", |_| false),
    ("store", |store| *store == false),
    // About the client or billing, not about the answer.
    ("user", |_| true),
    ("metadata", |_| true),
];

/// Reads all of them; refuses the first one with an effect, by name.
pub(crate) fn take(fields: &mut Fields) -> Result<(), ApiError> {
    PARAMETERS.iter().try_for_each(|(name, is_neutral)| fields.neutral(name, is_neutral))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}
