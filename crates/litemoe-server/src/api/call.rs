use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use litemoe_text::Piece;

use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::api::reply::Reply;
use crate::api::{served, stream};
use crate::caller::Caller;
use crate::client::Client;
use crate::engine::{Event, Events, Pace, Place, Refusal, Request};
use crate::models::Served;
use crate::state::State;

/// A request to the engine, and its place in the queue.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) place: Place,
    pub(crate) request: Request,
    pub(crate) stream: bool,
}

/// The served model of a name.
pub(crate) async fn find(
    state: &State,
    caller: &Caller,
    model: &str,
    record: &Record,
) -> Result<Served, ApiError> {
    let served = served::find(state, caller, model).await?;
    let _ = record.model.set(served.name.clone());
    Ok(served)
}

/// Takes a place in the queue.
pub(crate) fn enter(state: &State, caller: &Caller, served: &Served) -> Result<Place, ApiError> {
    let client = Client { peer: caller.peer(), model: served.name.clone() };
    state.engine.enter(client).map_err(|refusal| refused(state, refusal))
}

fn refused(state: &State, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Busy => ApiError::overloaded(state.options.retry_after),
        Refusal::Stopped => ApiError::stopped(),
    }
}

impl Call {
    /// Submits the request and answers with its events, as a stream or whole.
    pub(crate) async fn answer(
        self,
        reply: impl Reply,
        record: Arc<Record>,
        state: &State,
    ) -> Result<Response, ApiError> {
        let Self { place, request, stream } = self;
        let (n_prompts, n_texts) = (request.prompts.len(), request.prompts.len() * request.n);
        let pace = if stream { Pace::Client } else { Pace::AtOnce };
        let events = place.submit(request, pace).map_err(|refusal| refused(state, refusal))?;
        match stream {
            true => Ok(stream::respond(reply, events, record, &state.options)),
            false => whole(reply, n_prompts, n_texts, events, &record, state).await,
        }
    }
}

async fn whole(
    reply: impl Reply,
    n_prompts: usize,
    n_texts: usize,
    mut events: Events,
    record: &Record,
    state: &State,
) -> Result<Response, ApiError> {
    let (mut prompts, mut texts) = (vec![Vec::new(); n_prompts], vec![Piece::default(); n_texts]);
    loop {
        match events.next().await {
            Some(Event::Prompt(prompt, scores)) => prompts[prompt] = scores,
            Some(Event::Piece(text, piece)) => texts[text].append(piece),
            Some(Event::Finished(usage)) => {
                let _ = record.n_cached.set(usage.n_cached);
                let _ = record.n_completion.set(usage.n_completion);
                let body = reply.whole(&prompts, &texts, usage);
                return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
            }
            Some(last) => return Err(ApiError::of_event(&last, state.options.retry_after)),
            None => return Err(ApiError::failed()),
        }
    }
}
