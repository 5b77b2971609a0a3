use axum::Json;
use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use litemoe_text::{Message, Piece};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;

use crate::api::answer::Answer;
use crate::api::error::ApiError;
use crate::api::request::ChatRequest;
use crate::api::stream;
use crate::engine::{Event, Refusal};
use crate::generation::Request;
use crate::state::{Shared, State};

/// `POST /v1/chat/completions`
pub(crate) async fn complete(
    Extract(state): Shared,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let chat = ChatRequest::parse(&body?)?;
    let served = state.registry.find(&chat.model);
    let served = served.ok_or_else(|| ApiError::unknown_model(&chat.model))?;
    chat.sampling.check_tokens(state.vocab)?;
    let request = Request {
        prompt: prompt(&state, chat.messages).await?,
        mounted: served.mounted.clone(),
        sampling: chat.sampling,
        n: chat.n,
        n_top: chat.n_top,
        max_new: chat.max_new,
        stop: chat.stop,
    };
    let events = state.engine.submit(request).map_err(|refusal| match refusal {
        Refusal::Busy => ApiError::overloaded(state.options.retry_after),
        Refusal::Stopped => ApiError::stopped(),
    })?;
    let answer = Answer::new(chat.model, chat.include_usage);
    match chat.stream {
        true => Ok(stream::respond(answer, chat.n, events, state.options.keep_alive)),
        false => whole(&answer, chat.n, events).await,
    }
}

/// Tokenizes the conversation; at least one token is left for the answer.
async fn prompt(state: &State, messages: Vec<Message>) -> Result<Vec<u32>, ApiError> {
    let tokenizer = state.tokenizer.clone();
    // Tokenizing a long conversation would block other requests.
    let encoded = spawn_blocking(move || tokenizer.encode_prompt(&messages)).await;
    let prompt = encoded.map_err(|_| ApiError::failed())??;
    match prompt.len() {
        0 => Err(ApiError::bad_request("invalid_value", "the messages are empty").of("messages")),
        n_prompt if n_prompt >= state.max_tokens => {
            Err(ApiError::too_long(n_prompt, state.max_tokens))
        }
        _ => Ok(prompt),
    }
}

async fn whole(
    answer: &Answer,
    n: usize,
    mut events: UnboundedReceiver<Event>,
) -> Result<Response, ApiError> {
    let mut texts = vec![Piece::default(); n];
    loop {
        match events.recv().await {
            Some(Event::Piece(text, piece)) => texts[text].append(piece),
            Some(Event::Finished(usage)) => {
                return Ok(Json(answer.whole(&texts, usage)).into_response());
            }
            Some(Event::Failed) | None => return Err(ApiError::failed()),
        }
    }
}
