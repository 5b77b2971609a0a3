use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State as Extract};
use axum::response::Response;
use litemoe_text::{CallFormat, Grammar, Prompt};

use crate::api::answer::Answer;
use crate::api::body;
use crate::api::call::{self, Call};
use crate::api::calls::Calls;
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::api::request::ChatRequest;
use crate::api::shape::Shape;
use crate::apps::Admission;
use crate::caller::Caller;
use crate::engine::{Request, TextKind};
use crate::prompt;
use crate::quota::Reserved;
use crate::state::{Shared, State};

/// `POST /v1/chat/completions`
pub(crate) async fn complete(
    Extract(state): Shared,
    Extension(record): Extension<Arc<Record>>,
    Extension(caller): Extension<Caller>,
    Extension(admission): Extension<Option<Admission>>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    let received = body::read(request, &state).await?;
    let (chat, reserved) = received.parse(&state, ChatRequest::parse).await?;
    let served = call::find(&state, &caller, &chat.model, &record).await?;
    chat.common.sampling.check_tokens(state.vocab)?;
    chat.common.ending.check_tokens(state.vocab)?;
    state.context.check_bytes(chat.prompt.n_bytes())?;
    let place = call::enter(&state, &caller, &served)?;
    let Prepared { prompt, grammar, format } =
        prepare(&state, chat.prompt, chat.shape, !chat.tools.all.is_empty(), reserved).await?;
    let _ = record.n_prompt.set(prompt.len());
    let max_new = state.context.room(prompt.len(), chat.max_new)?;
    let common = chat.common;
    if !common.stream {
        state.options.limits.check_logprobs(common.n, max_new, chat.n_top)?;
    }
    let shown = format.as_ref().map(|format| format.special_tokens()).unwrap_or_default();
    let calls = format.map(|format| Calls::new(format, chat.tools.names(), common.n));
    let answer = Answer::new(chat.model, common.n, common.include_usage, calls);
    let request = Request {
        prompts: vec![prompt],
        kind: TextKind::Answer,
        grammar,
        shown,
        mounted: served.mounted,
        sampling: common.sampling,
        n: common.n,
        n_top: chat.n_top,
        scores_prompts: false,
        max_new,
        stop: common.stop,
        ending: common.ending,
        is_background: common.is_background || caller.is_background(),
        admission,
    };
    Call { place, request, stream: common.stream }.answer(answer, record, &state).await
}

/// What a conversation's answer needs.
struct Prepared {
    prompt: Vec<u32>,
    grammar: Option<Grammar>,
    /// Format of the calls that an answer may have.
    format: Option<Arc<CallFormat>>,
}

/// Tokenizes the conversation and compiles the grammar of its answers. The memory of the request is reserved until then.
async fn prepare(
    state: &State,
    prompt: Prompt,
    shape: Option<Shape>,
    has_tools: bool,
    reserved: Reserved,
) -> Result<Prepared, ApiError> {
    let (tokenizer, context) = (state.tokenizer.clone(), state.context);
    let n_bytes = prompt.n_bytes();
    let work = move || {
        let _reserved = reserved;
        let prompt = prompt::encode(&tokenizer, &prompt, context)?;
        let grammar = shape.map(|shape| {
            let grammar = tokenizer.grammar(&shape.kind);
            grammar.map_err(|error| ApiError::of_grammar(&error, &shape.param))
        });
        let format = tokenizer.call_format().filter(|_| has_tools).cloned();
        Ok(Prepared { prompt, grammar: grammar.transpose()?, format })
    };
    let prepared: Result<Prepared, ApiError> =
        state.lanes.run(n_bytes, work).await.map_err(|_| ApiError::failed())?;
    let prepared = prepared?;
    match prepared.prompt.is_empty() {
        true => {
            Err(ApiError::bad_request("invalid_value", "the messages are empty").of("messages"))
        }
        false => Ok(prepared),
    }
}
