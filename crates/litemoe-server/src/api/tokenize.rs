use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State as Extract};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use litemoe_text::{TextError, Tokenizer};
use serde::Serialize;

use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::api::tokenize_request::{Form, Source, TokenizeRequest};
use crate::api::{body, served};
use crate::caller::Caller;
use crate::limits::Context;
use crate::prompt;
use crate::state::Shared;

/// Tokens of a text or a conversation, as vLLM or llama-server writes them.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Tokens {
    Vllm { count: usize, max_model_len: usize, tokens: Vec<u32> },
    Plain { tokens: Vec<u32> },
    Pieces { tokens: Vec<TokenPiece> },
}

#[derive(Debug, Serialize)]
struct TokenPiece {
    id: u32,
    piece: Piece,
}

/// A token's text, or its bytes if they are part of a character.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

/// `POST /tokenize`
pub(crate) async fn tokenize(
    Extract(state): Shared,
    Extension(record): Extension<Arc<Record>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    let received = body::read(request, &state).await?;
    let (request, reserved) = received.parse(&state, TokenizeRequest::parse).await?;
    if let Some(model) = &request.model {
        served::check(&state, &caller, model, &record).await?;
    }
    let (context, n_bytes, param) = (state.context, request.n_bytes(), request.param());
    context.check_bytes(n_bytes).map_err(|excess| ApiError::from(excess).of(param))?;
    let tokenizer = state.tokenizer.clone();
    let work = move || {
        let _reserved = reserved;
        let tokens = tokens(&tokenizer, &request, context)?;
        Ok(serde_json::to_string(&tokens).expect("numbers and texts"))
    };
    let json: Result<String, ApiError> =
        state.lanes.run(n_bytes, work).await.map_err(|_| ApiError::failed())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json?).into_response())
}

fn tokens(
    tokenizer: &Tokenizer,
    request: &TokenizeRequest,
    context: Context,
) -> Result<Tokens, ApiError> {
    let param = request.param();
    let tokens = match &request.source {
        Source::Chat(conversation) => prompt::encode(tokenizer, conversation, context)?,
        Source::Text { text, is_begun } => {
            let encode = if *is_begun { prompt::encode_plain } else { prompt::encode_bare };
            encode(tokenizer, text, context).map_err(|error| ApiError::from(error).of(param))?
        }
    };
    Ok(match request.form {
        Form::Vllm => {
            let (count, max_model_len) = (tokens.len(), context.max_tokens());
            Tokens::Vllm { count, max_model_len, tokens }
        }
        Form::Plain => Tokens::Plain { tokens },
        Form::Pieces => {
            let pieces = tokens.into_iter().map(|id| piece(tokenizer, id));
            Tokens::Pieces { tokens: pieces.collect::<Result<_, _>>()? }
        }
    })
}

fn piece(tokenizer: &Tokenizer, id: u32) -> Result<TokenPiece, TextError> {
    let piece = match String::from_utf8(tokenizer.token_bytes(id)?) {
        Ok(text) => Piece::Text(text),
        Err(error) => Piece::Bytes(error.into_bytes()),
    };
    Ok(TokenPiece { id, piece })
}
