use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use serde::Serialize;

use crate::ServerOptions;
use crate::api::answer::Answer;
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::engine::{Event, Events};

/// Streams an answer as server-sent events: for each text its role, pieces and finish reason; then usage and `[DONE]`;
/// `: ping` while idle.
///
/// The response body owns the event receiver, so a disconnected client ends the generation.
pub(crate) fn respond(
    answer: Answer,
    n: usize,
    events: Events,
    record: Arc<Record>,
    options: &ServerOptions,
) -> Response {
    let begin: Vec<String> = (0..n).map(|text| json(&answer.begin(text))).collect();
    let retry_after = options.retry_after;
    let chunks = stream::unfold(events, async |mut events| Some((events.next().await?, events)))
        .flat_map(move |event| {
            if let Event::Finished(usage) = &event {
                let _ = record.n_completion.set(usage.n_completion);
            }
            stream::iter(chunks_of(&answer, event, retry_after))
        });
    let data = stream::iter(begin).chain(chunks);
    let done = stream::iter(["[DONE]".to_owned()]);
    let frames = data.chain(done).map(|data| Ok::<_, Infallible>(Frame::default().data(data)));
    let keep_alive = KeepAlive::new().interval(options.keep_alive).text("ping");
    Sse::new(frames).keep_alive(keep_alive).into_response()
}

fn chunks_of(answer: &Answer, event: Event, retry_after: Duration) -> Vec<String> {
    let error = |error: ApiError| vec![error.body().to_string()];
    match event {
        Event::Piece(text, piece) => answer.piece(text, &piece).map(|chunk| json(&chunk)).collect(),
        Event::Finished(usage) => answer.end(usage).iter().map(json).collect(),
        Event::Displaced => error(ApiError::overloaded(retry_after)),
        Event::Unread => error(ApiError::unread()),
        Event::NotFinite(logit) => error(logit.into()),
        Event::Failed => error(ApiError::failed()),
    }
}

fn json(chunk: &impl Serialize) -> String {
    serde_json::to_string(chunk).expect("texts and numbers")
}
