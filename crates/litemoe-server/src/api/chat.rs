use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State as Extract};
use axum::response::Response;
use litemoe_text::Prompt;

use crate::api::answer::Answer;
use crate::api::body::{self, Received};
use crate::api::call::{self, Call};
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::api::request::ChatRequest;
use crate::engine::{Request, TextKind};
use crate::prompt;
use crate::quota::Reserved;
use crate::state::{Shared, State};

/// `POST /v1/chat/completions`
pub(crate) async fn complete(
    Extract(state): Shared,
    Extension(record): Extension<Arc<Record>>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    let peer = call::peer(&request);
    let received = body::read(request, &state).await?;
    let (chat, reserved) = parse(&state, received).await?;
    let served = call::find(&state, &chat.model, &record)?;
    chat.common.sampling.check_tokens(state.vocab)?;
    state.context.check_bytes(chat.prompt.n_bytes())?;
    let place = call::enter(&state, peer, served)?;
    let prompt = tokenize(&state, chat.prompt, reserved).await?;
    let _ = record.n_prompt.set(prompt.len());
    let max_new = state.context.room(prompt.len(), chat.max_new)?;
    let common = chat.common;
    if !common.stream {
        state.options.limits.check_logprobs(common.n, max_new, chat.n_top)?;
    }
    let answer = Answer::new(chat.model, common.n, common.include_usage);
    let request = Request {
        prompts: vec![prompt],
        kind: TextKind::Answer,
        mounted: served.mounted.clone(),
        sampling: common.sampling,
        n: common.n,
        n_top: chat.n_top,
        scores_prompts: false,
        max_new,
        stop: common.stop,
        is_background: common.is_background,
    };
    Call { place, request, stream: common.stream }.answer(answer, record, &state).await
}

async fn parse(
    state: &State,
    Received { bytes, reserved }: Received,
) -> Result<(ChatRequest, Reserved), ApiError> {
    let (limits, sampling) = (state.options.limits.clone(), state.options.sampling.clone());
    let n_bytes = bytes.len();
    let parse = move || (ChatRequest::parse(&bytes, &limits, &sampling), reserved);
    let (chat, reserved) = state.lanes.run(n_bytes, parse).await.map_err(|_| ApiError::failed())?;
    Ok((chat?, reserved))
}

/// Tokenizes the conversation. Its memory is reserved until then.
async fn tokenize(state: &State, prompt: Prompt, reserved: Reserved) -> Result<Vec<u32>, ApiError> {
    let (tokenizer, context) = (state.tokenizer.clone(), state.context);
    let n_bytes = prompt.n_bytes();
    let encode = move || {
        let _reserved = reserved;
        prompt::encode(&tokenizer, &prompt, context)
    };
    let encoded = state.lanes.run(n_bytes, encode).await;
    let prompt = encoded.map_err(|_| ApiError::failed())??;
    match prompt.is_empty() {
        true => {
            Err(ApiError::bad_request("invalid_value", "the messages are empty").of("messages"))
        }
        false => Ok(prompt),
    }
}
