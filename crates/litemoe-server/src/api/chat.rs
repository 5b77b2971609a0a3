use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request as HttpRequest, State as Extract};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use litemoe_text::{Piece, Prompt};

use crate::api::answer::Answer;
use crate::api::body::{self, Received};
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::api::request::ChatRequest;
use crate::api::stream;
use crate::engine::{Event, Events, Pace, Refusal};
use crate::generation::Request;
use crate::prompt;
use crate::quota::Reserved;
use crate::state::{Shared, State};
use crate::turns::{Client, peer_of};

/// `POST /v1/chat/completions`
pub(crate) async fn complete(
    Extract(state): Shared,
    Extension(record): Extension<Arc<Record>>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = address.map(|ConnectInfo(address)| peer_of(address.ip()));
    let received = body::read(request, &state).await?;
    let (chat, reserved) = parse(&state, received).await?;
    let served = state.registry.find(&chat.model);
    let served = served.ok_or_else(|| ApiError::unknown_model(&chat.model))?;
    let _ = record.model.set(served.name.clone());
    chat.sampling.check_tokens(state.vocab)?;
    state.context.check_bytes(chat.prompt.n_bytes())?;

    let refused = |refusal| match refusal {
        Refusal::Busy => ApiError::overloaded(state.options.retry_after),
        Refusal::Stopped => ApiError::stopped(),
    };
    let client = Client { peer, model: served.name.clone() };
    let place = state.engine.enter(client).map_err(refused)?;
    let prompt = tokenize(&state, chat.prompt, reserved).await?;
    let _ = record.n_prompt.set(prompt.len());
    let max_new = state.context.room(prompt.len(), chat.max_new)?;
    if !chat.stream {
        state.options.limits.check_logprobs(chat.n, max_new, chat.n_top)?;
    }
    let request = Request {
        max_new,
        prompt,
        mounted: served.mounted.clone(),
        sampling: chat.sampling,
        n: chat.n,
        n_top: chat.n_top,
        stop: chat.stop,
    };
    let pace = if chat.stream { Pace::Cancel } else { Pace::Wait };
    let events = place.submit(request, pace).map_err(refused)?;
    let answer = Answer::new(chat.model, chat.include_usage);
    match chat.stream {
        true => Ok(stream::respond(answer, chat.n, events, record, &state.options)),
        false => whole(&answer, chat.n, events, &record, &state).await,
    }
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

async fn whole(
    answer: &Answer,
    n: usize,
    mut events: Events,
    record: &Record,
    state: &State,
) -> Result<Response, ApiError> {
    let mut texts = vec![Piece::default(); n];
    loop {
        match events.next().await {
            Some(Event::Piece(text, piece)) => texts[text].append(piece),
            Some(Event::Finished(usage)) => {
                let _ = record.n_completion.set(usage.n_completion);
                return Ok(Json(answer.whole(&texts, usage)).into_response());
            }
            Some(Event::Displaced) => return Err(ApiError::overloaded(state.options.retry_after)),
            Some(Event::Unread) => return Err(ApiError::unread()),
            Some(Event::NotFinite(error)) => return Err(error.into()),
            Some(Event::Failed) | None => return Err(ApiError::failed()),
        }
    }
}
