use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State as Extract};
use axum::response::Response;
use litemoe_text::Tokenizer;

use crate::api::call::{self, Call};
use crate::api::completion_request::{CompletionRequest, MAX_NEW, PlainPrompt};
use crate::api::continuation::Continuation;
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::api::{body, token_ids};
use crate::apps::Admission;
use crate::caller::Caller;
use crate::engine::{Request, TextKind};
use crate::limits::{Context, Excess};
use crate::prompt;
use crate::quota::Reserved;
use crate::state::{Shared, State};

/// `POST /v1/completions`
pub(crate) async fn complete(
    Extract(state): Shared,
    Extension(record): Extension<Arc<Record>>,
    Extension(caller): Extension<Caller>,
    Extension(admission): Extension<Option<Admission>>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    let received = body::read(request, &state).await?;
    let (request, reserved) = received.parse(&state, CompletionRequest::parse).await?;
    let CompletionRequest { model, prompts, n_top, max_new, echo, common } = request;
    let served = call::find(&state, &caller, &model, &record).await?;
    common.sampling.check_tokens(state.vocab)?;
    common.ending.check_tokens(state.vocab)?;
    if state.context.has_encoder() && echo && n_top.is_some() {
        let message = "`echo` with `logprobs` is not supported by an encoder–decoder";
        return Err(ApiError::bad_request("unsupported_parameter", message).of("echo"));
    }
    let n_echoed: usize = prompts.iter().map(PlainPrompt::n_bytes).sum();
    let max_echoed = state.options.limits.max_body;
    if echo && n_echoed.saturating_mul(common.n) > max_echoed {
        let message = format!("`echo` of `n` times the prompts is more than {max_echoed} bytes");
        return Err(ApiError::bad_request("invalid_value", message).of("echo"));
    }
    for prompt in &prompts {
        state.context.check_bytes(prompt.n_bytes()).map_err(of_prompt)?;
    }
    let place = call::enter(&state, &caller, &served)?;
    let prompts = encode(&state, prompts, echo, reserved).await?;
    let n_prompt: usize = prompts.iter().map(|prompt| prompt.tokens.len()).sum();
    let _ = record.n_prompt.set(n_prompt);
    let max_new = match max_new {
        Some(max_new) => max_new,
        None => prompts.iter().fold(MAX_NEW, |max_new, prompt| {
            let room = state.context.room(prompt.tokens.len(), None);
            room.map_or(max_new, |room| room.min(max_new))
        }),
    };
    for prompt in &prompts {
        let room = state.context.room(prompt.tokens.len(), Some(max_new.max(1)));
        room.map_err(of_prompt)?;
    }
    let scores_prompts = echo && n_top.is_some();
    let n_new = max_new.saturating_mul(common.n).saturating_mul(prompts.len());
    let n_scored = if scores_prompts { n_prompt.saturating_mul(common.n) } else { 0 };
    // The logprobs of a prompt are there at once in streams too.
    let n_at_once = if common.stream { n_scored } else { n_scored.saturating_add(n_new) };
    state.options.limits.check_logprobs(1, n_at_once, n_top)?;
    let n_texts = prompts.len() * common.n;
    let (texts, tokens) = prompts.into_iter().map(|prompt| (prompt.text, prompt.tokens)).unzip();
    let tokens: Vec<Vec<u32>> = tokens;
    let echoed = match echo {
        true => Some(Continuation::echoed(&state.tokenizer, texts, &tokens, n_top.is_some())?),
        false => None,
    };
    let reply = Continuation::new(model, n_texts, common.n, echoed, common.include_usage);
    let request = Request {
        prompts: tokens,
        kind: TextKind::Continuation,
        grammar: None,
        shown: BTreeSet::new(),
        mounted: served.mounted,
        sampling: common.sampling,
        n: common.n,
        n_top,
        scores_prompts,
        max_new,
        stop: common.stop,
        ending: common.ending,
        is_background: common.is_background || caller.is_background(),
        admission,
    };
    Call { place, request, stream: common.stream }.answer(reply, record, &state).await
}

/// A prompt's tokens, and its text if it is echoed.
struct Encoded {
    text: String,
    tokens: Vec<u32>,
}

/// Tokenizes the prompts. Their memory is reserved until then.
async fn encode(
    state: &State,
    prompts: Vec<PlainPrompt>,
    echo: bool,
    reserved: Reserved,
) -> Result<Vec<Encoded>, ApiError> {
    let (tokenizer, context, vocab) = (state.tokenizer.clone(), state.context, state.vocab);
    let n_bytes = prompts.iter().map(PlainPrompt::n_bytes).sum();
    let encode = move || {
        let _reserved = reserved;
        let encode = |prompt| encode_one(&tokenizer, prompt, echo, context, vocab);
        prompts.into_iter().map(encode).collect::<Result<Vec<_>, _>>()
    };
    state.lanes.run(n_bytes, encode).await.map_err(|_| ApiError::failed())?
}

fn encode_one(
    tokenizer: &Tokenizer,
    prompt: PlainPrompt,
    echo: bool,
    context: Context,
    vocab: usize,
) -> Result<Encoded, ApiError> {
    let encoded = match prompt {
        PlainPrompt::Text(text) => {
            let tokens = prompt::encode_plain(tokenizer, &text, context)
                .map_err(|error| ApiError::from(error).of("prompt"))?;
            Encoded { text, tokens }
        }
        PlainPrompt::Tokens(tokens) => {
            token_ids::check(&tokens, vocab, "prompt")?;
            let text = if echo { tokenizer.decode(&tokens)? } else { String::new() };
            Encoded { text, tokens }
        }
    };
    match encoded.tokens.is_empty() {
        true => Err(ApiError::bad_request("invalid_value", "`prompt` has no tokens").of("prompt")),
        false => Ok(encoded),
    }
}

fn of_prompt(excess: Excess) -> ApiError {
    let error = ApiError::from(excess);
    match excess {
        Excess::Answer { .. } | Excess::Logprobs { .. } => error,
        Excess::Bytes { .. } | Excess::Text { .. } | Excess::Prompt { .. } => error.of("prompt"),
    }
}
