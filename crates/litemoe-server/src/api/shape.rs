use litemoe_text::GrammarKind;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// What an answer must be, and the parameter that says so.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) kind: GrammarKind,
    /// Path of the parameter in the request.
    pub(crate) param: String,
}

impl Shape {
    fn new(kind: GrammarKind, param: impl Into<String>) -> Self {
        Self { kind, param: param.into() }
    }
}

/// Reads what an answer must be: OpenAI's `response_format`, `choices`, and vLLM's `structured_outputs` and the older
/// `guided_choice`, `guided_json` and `guided_regex`. `None` for any text.
pub(crate) fn take(fields: &mut Fields) -> Result<Option<Shape>, ApiError> {
    let mut shapes = Vec::new();
    shapes.extend(response_format(fields)?);
    for name in ["choices", "guided_choice"] {
        shapes.extend(choices(fields, name)?.map(|kind| Shape::new(kind, name)));
    }
    shapes.extend(json(fields, "guided_json")?.map(|kind| Shape::new(kind, "guided_json")));
    let regex = fields.optional("guided_regex", "a string")?.map(GrammarKind::Regex);
    shapes.extend(regex.map(|kind| Shape::new(kind, "guided_regex")));
    shapes.extend(structured_outputs(fields)?);
    let shape = shapes.pop();
    match (shape, shapes.pop()) {
        (Some(last), Some(other)) => {
            let message = format!("`{}` cannot be combined with `{}`", last.param, other.param);
            Err(ApiError::bad_request("invalid_value", message).of(last.param))
        }
        (shape, _) => Ok(shape),
    }
}

fn response_format(fields: &mut Fields) -> Result<Option<Shape>, ApiError> {
    let Some(format) = fields.optional::<Value>("response_format", "an object")? else {
        return Ok(None);
    };
    let mut format = Fields::of(format, "response_format")?;
    let kind: String = format.required("type", "a string")?;
    let shape = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Shape::new(GrammarKind::JsonObject, "response_format")),
        "json_schema" => {
            let json_schema: Value = format.required("json_schema", "an object")?;
            Some(json_schema_of(json_schema)?)
        }
        _ => {
            let expected = "`text`, `json_object` or `json_schema`";
            return Err(format.invalid("type", "unsupported_parameter", expected));
        }
    };
    format.finish()?;
    Ok(shape)
}

/// The schema of a `json_schema` format. Every answer follows it, so `strict` has no further effect.
fn json_schema_of(value: Value) -> Result<Shape, ApiError> {
    let path = "response_format.json_schema";
    let mut fields = Fields::of(value, path)?;
    for name in ["name", "description"] {
        fields.optional::<String>(name, "a string")?;
    }
    fields.optional::<bool>("strict", "a boolean")?;
    let schema = fields.required("schema", "a JSON schema")?;
    fields.finish()?;
    Ok(Shape::new(GrammarKind::JsonSchema(schema), format!("{path}.schema")))
}

fn structured_outputs(fields: &mut Fields) -> Result<Option<Shape>, ApiError> {
    let path = "structured_outputs";
    let Some(value) = fields.optional::<Value>(path, "an object")? else { return Ok(None) };
    let mut fields = Fields::of(value, path)?;
    let json_object = fields.optional("json_object", "a boolean")?.unwrap_or(false);
    let regex = fields.optional("regex", "a string")?.map(GrammarKind::Regex);
    let kinds = [
        choices(&mut fields, "choice")?.map(|kind| ("choice", kind)),
        json(&mut fields, "json")?.map(|kind| ("json", kind)),
        regex.map(|kind| ("regex", kind)),
        json_object.then_some(("json_object", GrammarKind::JsonObject)),
    ];
    fields.finish()?;
    let mut kinds = kinds.into_iter().flatten();
    match (kinds.next(), kinds.next()) {
        (Some((name, kind)), None) => Ok(Some(Shape::new(kind, format!("{path}.{name}")))),
        (None, _) => {
            let message = format!("`{path}` has none of `choice`, `json`, `regex`, `json_object`");
            Err(ApiError::bad_request("invalid_value", message).of(path))
        }
        (Some((first, _)), Some((second, _))) => {
            let message = format!("`{path}.{second}` cannot be combined with `{path}.{first}`");
            Err(ApiError::bad_request("invalid_value", message).of(format!("{path}.{second}")))
        }
    }
}

fn choices(fields: &mut Fields, name: &str) -> Result<Option<GrammarKind>, ApiError> {
    Ok(fields.optional(name, "a list of strings")?.map(GrammarKind::Choice))
}

/// A JSON schema, perhaps as JSON in a string.
fn json(fields: &mut Fields, name: &str) -> Result<Option<GrammarKind>, ApiError> {
    let schema = match fields.optional(name, "a JSON schema")? {
        Some(Value::String(text)) => Some(
            serde_json::from_str(&text)
                .map_err(|_| fields.invalid(name, "invalid_type", "a JSON schema"))?,
        ),
        schema => schema,
    };
    Ok(schema.map(GrammarKind::JsonSchema))
}
