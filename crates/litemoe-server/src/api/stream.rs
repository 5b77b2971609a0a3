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

/// An answer as server-sent events: the role, the pieces, why it ended, the usage, `[DONE]`; `: ping` while idle.
///
/// The events' receiver lives in the response's body, so a client that disconnects ends the generation.
pub(crate) fn respond(
    answer: Answer,
    events: UnboundedReceiver<Event>,
    keep_alive: Duration,
) -> Response {
    let begin = stream::iter([answer.begin()]);
    let chunks = UnboundedReceiverStream::new(events)
        .flat_map(move |event| stream::iter(chunks_of(&answer, event)));
    let data = begin.chain(chunks).map(|chunk| chunk.to_string());
    let done = stream::iter(["[DONE]".to_owned()]);
    let frames = data.chain(done).map(|data| Ok::<_, Infallible>(Frame::default().data(data)));
    Sse::new(frames).keep_alive(KeepAlive::new().interval(keep_alive).text("ping")).into_response()
}

fn chunks_of(answer: &Answer, event: Event) -> Vec<Value> {
    match event {
        Event::Text(text) => vec![answer.piece(&text)],
        Event::Finished(finished) => answer.end(finished),
        Event::Failed => vec![ApiError::failed().body()],
    }
}
