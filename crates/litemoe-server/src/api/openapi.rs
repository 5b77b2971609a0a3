use axum::http::header;
use axum::response::IntoResponse;

/// OpenAPI document of the server. The tests compare it with the routes and with the fields that requests may have.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(crate) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use litemoe_core::Sampling;
    use serde_json::{Value, json};

    use super::DOCUMENT;
    use crate::RequestLimits;
    use crate::api::completion_request::CompletionRequest;
    use crate::api::detokenize::DetokenizeRequest;
    use crate::api::error::ApiError;
    use crate::api::fields::asked;
    use crate::api::request::ChatRequest;
    use crate::api::routes;
    use crate::api::tokenize_request::TokenizeRequest;
    use crate::api::tuning::TuningRequest;

    type Parse<T> = fn(&[u8], &RequestLimits, &Sampling) -> Result<T, ApiError>;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_has_the_routes_and_no_others() {
        let routes: BTreeSet<_> = routes()
            .into_iter()
            .map(|(method, path, ..)| (path.replace("{*", "{"), method.as_str().to_lowercase()))
            .collect();
        let document = document();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                documented.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(routes, documented);
    }

    #[test]
    fn every_reference_is_to_something_and_every_schema_is_used() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let (document, mut found) = (document(), BTreeSet::new());
        references(&document, &mut found);
        for reference in &found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            let is_chunk = name == "ChatChunk"; // of streams, which have no schema
            assert!(is_chunk || found.contains(&format!("#/components/schemas/{name}")), "{name}");
        }
    }

    /// Paths of the properties of a request's schema, and of the objects in it that have properties.
    fn documented(name: &str) -> BTreeSet<String> {
        fn add(document: &Value, schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
            if let Some(reference) = schema["$ref"].as_str() {
                add(document, document.pointer(&reference[1..]).unwrap(), path, paths);
            }
            for list in ["allOf", "anyOf", "oneOf"] {
                let schemas = schema[list].as_array().into_iter().flatten();
                schemas.for_each(|schema| add(document, schema, path, paths));
            }
            if let Some(items) = schema.get("items") {
                add(document, items, &format!("{path}[]"), paths);
            }
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                add(document, schema, &path, paths);
                paths.insert(path);
            }
        }
        let (document, mut paths) = (document(), BTreeSet::new());
        add(&document, &document["components"]["schemas"][name], "", &mut paths);
        paths
    }

    /// Paths of the fields that the parser reads in these bodies, which must be valid.
    fn read<T>(parse: Parse<T>, bodies: &[Value]) -> BTreeSet<String> {
        asked::take();
        for body in bodies {
            let parsed =
                parse(body.to_string().as_bytes(), &RequestLimits::default(), &Sampling::default());
            if let Err(error) = parsed {
                panic!("{body}: {error:?}");
            }
        }
        asked::take()
    }

    #[test]
    fn the_document_has_the_fields_that_requests_may_have_and_no_others() {
        let mut chat = json!({
            "model": "a", "stream": true, "stream_options": {},
            "messages": [{ "role": "user", "content": [{ "type": "text", "text": "a" }] },
                         { "role": "assistant", "tool_calls": [{ "type": "function", "function":
                             { "name": "f", "arguments": "{}" } }] },
                         { "role": "tool", "content": "a" }],
        });
        let mut chats = vec![chat.clone()];
        for (name, value) in [
            ("response_format", json!({ "type": "json_schema", "json_schema": { "schema": {} } })),
            ("structured_outputs", json!({ "json_object": true })),
        ] {
            chat[name] = value;
            chats.push(chat.clone());
            chat.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(read(ChatRequest::parse, &chats), documented("ChatRequest"));
        let completion =
            json!({ "model": "a", "prompt": "a", "stream": true, "stream_options": {} });
        let completion_fields = read(CompletionRequest::parse, &[completion]);
        assert_eq!(completion_fields, documented("CompletionRequest"));
        let bodies = [json!({ "content": "a" }), json!({ "prompt": "a" }), chats[0].clone()];
        let bodies = bodies.map(|mut body| {
            for name in ["stream", "stream_options"] {
                body.as_object_mut().unwrap().remove(name);
            }
            body
        });
        assert_eq!(read(TokenizeRequest::parse, &bodies), documented("TokenizeRequest"));
        let tokens = json!({ "tokens": [1] });
        assert_eq!(read(DetokenizeRequest::parse, &[tokens]), documented("DetokenizeRequest"));
        let job = json!({ "model": "a", "training_file": "file-1", "hyperparameters": {} });
        let mut newer = job.clone();
        newer["method"] = json!({ "type": "supervised", "supervised": { "hyperparameters": {} } });
        newer.as_object_mut().unwrap().remove("hyperparameters");
        let fields = read(TuningRequest::parse, &[job, newer]);
        assert_eq!(fields, documented("FineTuningRequest"));
    }
}
