use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::api::answer::Answer;
use crate::api::error::ApiError;
use crate::engine::Event;

/// Streams an answer as server-sent events: for each text its role, pieces and finish reason; then usage and `[DONE]`;
/// `: ping` while idle.
///
/// The response body owns the event receiver, so a disconnected client ends the generation.
pub(crate) fn respond(
    answer: Answer,
    n: usize,
    events: UnboundedReceiver<Event>,
    keep_alive: Duration,
) -> Response {
    let begin: Vec<Value> = (0..n).map(|text| answer.begin(text)).collect();
    let chunks = UnboundedReceiverStream::new(events)
        .flat_map(move |event| stream::iter(chunks_of(&answer, event)));
    let data = stream::iter(begin).chain(chunks).map(|chunk| chunk.to_string());
    let done = stream::iter(["[DONE]".to_owned()]);
    let frames = data.chain(done).map(|data| Ok::<_, Infallible>(Frame::default().data(data)));
    Sse::new(frames).keep_alive(KeepAlive::new().interval(keep_alive).text("ping")).into_response()
}

fn chunks_of(answer: &Answer, event: Event) -> Vec<Value> {
    match event {
        Event::Piece(text, piece) => answer.piece(text, &piece),
        Event::Finished(usage) => answer.end(usage).into_iter().collect(),
        Event::Failed => vec![ApiError::failed().body()],
    }
}
