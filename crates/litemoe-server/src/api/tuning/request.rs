use litemoe_core::Sampling;
use litemoe_registry::{AdapterName, JobKind, JobSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;

/// Request to create a fine-tuning job.
#[derive(Debug)]
pub(crate) struct TuningRequest(pub(super) JobSpec);

/// A value, or `"auto"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Auto<T> {
    Auto(Word),
    Given(T),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Auto,
}

/// Hyperparameters; `None` is `auto`.
#[derive(Debug, Default)]
struct Hyperparameters {
    n_epochs: Option<u32>,
    batch_size: Option<u32>,
    learning_rate_multiplier: Option<f64>,
}

impl TuningRequest {
    /// Parses a body. Ranges are checked when the job is queued.
    pub(crate) fn parse(
        body: &[u8],
        limits: &RequestLimits,
        _: &Sampling,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body, limits.max_values)?;
        let Hyperparameters { n_epochs, batch_size, learning_rate_multiplier } =
            hyperparameters(&mut fields)?;
        let spec = JobSpec {
            kind: JobKind::Customize,
            model: fields.required("model", "a string")?,
            training_file: fields.required("training_file", "a string")?,
            validation_file: fields.optional("validation_file", "a string")?,
            suffix: suffix(&mut fields)?,
            seed: fields.optional("seed", "a whole number of at least 0")?,
            n_epochs,
            batch_size,
            learning_rate_multiplier,
            budget: fields.optional("budget", "a number")?,
        };
        fields.neutral("integrations", |list| list.as_array().is_some_and(Vec::is_empty))?;
        fields.neutral("metadata", |map| map.as_object().is_some_and(|map| map.is_empty()))?;
        fields.finish()?;
        Ok(Self(spec))
    }
}

/// Hyperparameters of the method, or those that older clients send outside it.
fn hyperparameters(fields: &mut Fields) -> Result<Hyperparameters, ApiError> {
    let older: Option<Value> = fields.optional("hyperparameters", "an object")?;
    let older = older.map(|older| read(older, "hyperparameters")).transpose()?;
    let Some(method) = fields.optional::<Value>("method", "an object")? else {
        return Ok(older.unwrap_or_default());
    };
    let mut method = Fields::of(method, "method")?;
    let kind: String = method.required("type", "a string")?;
    if kind != "supervised" {
        return Err(method.unsupported("type", &kind.into()));
    }
    let supervised: Option<Value> = method.optional("supervised", "an object")?;
    method.finish()?;
    let Some(supervised) = supervised else { return Ok(older.unwrap_or_default()) };
    let mut supervised = Fields::of(supervised, "method.supervised")?;
    let newer: Option<Value> = supervised.optional("hyperparameters", "an object")?;
    let path = supervised.path("hyperparameters");
    supervised.finish()?;
    match (newer, older) {
        (Some(_), Some(_)) => {
            let message = format!("`hyperparameters` and `{path}` are given; use one of them");
            Err(ApiError::bad_request("invalid_value", message).of("hyperparameters"))
        }
        (Some(newer), None) => read(newer, &path),
        (None, older) => Ok(older.unwrap_or_default()),
    }
}

fn read(value: Value, path: &str) -> Result<Hyperparameters, ApiError> {
    let mut fields = Fields::of(value, path)?;
    let read = Hyperparameters {
        n_epochs: auto(&mut fields, "n_epochs", "`auto` or a whole number")?,
        batch_size: auto(&mut fields, "batch_size", "`auto` or a whole number")?,
        learning_rate_multiplier: auto(
            &mut fields,
            "learning_rate_multiplier",
            "`auto` or a number",
        )?,
    };
    fields.finish()?;
    Ok(read)
}

fn auto<T: DeserializeOwned>(
    fields: &mut Fields,
    name: &str,
    expected: &str,
) -> Result<Option<T>, ApiError> {
    Ok(match fields.optional(name, expected)? {
        Some(Auto::Given(value)) => Some(value),
        Some(Auto::Auto(Word::Auto)) | None => None,
    })
}

fn suffix(fields: &mut Fields) -> Result<Option<AdapterName>, ApiError> {
    let suffix: Option<String> = fields.optional("suffix", "a string")?;
    let parsed = suffix.filter(|suffix| !suffix.is_empty()).map(|suffix| suffix.parse());
    let expected = "1 to 55 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit";
    parsed.transpose().map_err(|_| fields.invalid("suffix", "invalid_value", expected))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(more: &Value) -> Result<JobSpec, Value> {
        let mut body = json!({ "model": "m", "training_file": "file-1" });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let parsed = TuningRequest::parse(
            body.to_string().as_bytes(),
            &RequestLimits::default(),
            &Sampling::default(),
        );
        parsed.map(|TuningRequest(spec)| spec).map_err(|error| error.body()["error"].clone())
    }

    #[test]
    fn hyperparameters_are_numbers_or_auto_in_either_place() {
        let plain = JobSpec::new("m", "file-1");
        assert_eq!(parsed(&json!({})).unwrap(), plain);
        let given = json!({ "n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5 });
        let expected =
            JobSpec { n_epochs: Some(2), learning_rate_multiplier: Some(0.5), ..plain.clone() };
        let older = json!({ "hyperparameters": given });
        let supervised = json!({ "type": "supervised", "supervised": older });
        for body in [older.clone(), json!({ "method": supervised })] {
            assert_eq!(parsed(&body).unwrap(), expected, "{body}");
        }
        let neutral = json!({
            "method": { "type": "supervised" }, "integrations": [], "metadata": {}, "seed": null,
            "suffix": "", "validation_file": null,
        });
        assert_eq!(parsed(&neutral).unwrap(), plain);
    }

    #[test]
    fn what_is_not_applied_is_refused_by_name() {
        for (body, param) in [
            (json!({ "method": { "type": "dpo" } }), "method.type"),
            (json!({ "method": { "type": "supervised", "dpo": {} } }), "method.dpo"),
            (json!({ "hyperparameters": { "beta": 1 } }), "hyperparameters.beta"),
            (json!({ "hyperparameters": { "n_epochs": "many" } }), "hyperparameters.n_epochs"),
            (json!({ "hyperparameters": { "n_epochs": -1 } }), "hyperparameters.n_epochs"),
            (json!({ "integrations": [{ "type": "wandb" }] }), "integrations"),
            (json!({ "metadata": { "a": "b" } }), "metadata"),
            (json!({ "suffix": "My Model" }), "suffix"),
            (json!({ "seed": -1 }), "seed"),
            (json!({ "model": 1 }), "model"),
            (json!({ "training_file": null }), "training_file"),
            (json!({ "temperature": 1 }), "temperature"),
            (
                json!({
                    "hyperparameters": {},
                    "method": { "type": "supervised", "supervised": { "hyperparameters": {} } },
                }),
                "hyperparameters",
            ),
        ] {
            assert_eq!(parsed(&body).unwrap_err()["param"], param, "{body}");
        }
    }
}
