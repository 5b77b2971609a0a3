use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State as Extract};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use litemoe_core::Sampling;
use serde_json::json;

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::api::fields::Fields;
use crate::api::log::Record;
use crate::api::{body, served, token_ids};
use crate::caller::Caller;
use crate::state::Shared;

/// Request for the text of tokens.
#[derive(Debug)]
pub(crate) struct DetokenizeRequest {
    model: Option<String>,
    tokens: Vec<u32>,
}

/// `POST /detokenize`
///
/// With a model, the answer has vLLM's form, otherwise llama-server's.
pub(crate) async fn detokenize(
    Extract(state): Shared,
    Extension(record): Extension<Arc<Record>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    let received = body::read(request, &state).await?;
    let (request, reserved) = received.parse(&state, DetokenizeRequest::parse).await?;
    let DetokenizeRequest { model, tokens } = request;
    if let Some(model) = &model {
        served::check(&state, &caller, model, &record).await?;
    }
    let n_bytes = size_of_val(tokens.as_slice());
    state.context.check_bytes(n_bytes).map_err(|excess| ApiError::from(excess).of("tokens"))?;
    token_ids::check(&tokens, state.vocab, "tokens")?;
    let name = if model.is_some() { "prompt" } else { "content" };
    let tokenizer = state.tokenizer.clone();
    let work = move || {
        let _reserved = reserved;
        let text = tokenizer.decode_all(&tokens)?;
        Ok(json!({ name: text }).to_string())
    };
    let json: Result<String, ApiError> =
        state.lanes.run(n_bytes, work).await.map_err(|_| ApiError::failed())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json?).into_response())
}

impl DetokenizeRequest {
    pub(crate) fn parse(
        body: &[u8],
        limits: &RequestLimits,
        _: &Sampling,
    ) -> Result<Self, ApiError> {
        // Every token is a value.
        let mut fields = Fields::parse(body, limits.max_values.saturating_mul(4))?;
        let model = fields.optional("model", "a string")?;
        let tokens = fields.required("tokens", "a list of token ids")?;
        fields.finish()?;
        Ok(Self { model, tokens })
    }
}
