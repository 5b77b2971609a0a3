use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};

use crate::ServerOptions;
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::api::reply::Reply;
use crate::engine::{Event, Events};

/// Streams an answer as server-sent events; `[DONE]` is the last, `: ping` is sent while idle.
///
/// The response body owns the event receiver, so a disconnected client ends the generation.
pub(crate) fn respond(
    mut reply: impl Reply,
    events: Events,
    record: Arc<Record>,
    options: &ServerOptions,
) -> Response {
    let begin = reply.begin();
    let retry_after = options.retry_after;
    let chunks = stream::unfold(events, async |mut events| Some((events.next().await?, events)))
        .flat_map(move |event| {
            if let Event::Finished(usage) = &event {
                let _ = record.n_cached.set(usage.n_cached);
                let _ = record.n_completion.set(usage.n_completion);
            }
            stream::iter(data_of(&mut reply, event, retry_after))
        });
    let data = stream::iter(begin).chain(chunks);
    let done = stream::iter(["[DONE]".to_owned()]);
    let frames = data.chain(done).map(|data| Ok::<_, Infallible>(Frame::default().data(data)));
    let keep_alive = KeepAlive::new().interval(options.keep_alive).text("ping");
    Sse::new(frames).keep_alive(keep_alive).into_response()
}

fn data_of(reply: &mut impl Reply, event: Event, retry_after: Duration) -> Vec<String> {
    match event {
        Event::Prompt(prompt, scores) => reply.prompt(prompt, &scores),
        Event::Piece(text, piece) => reply.piece(text, &piece),
        Event::Finished(usage) => reply.end(usage),
        last => vec![ApiError::of_event(&last, retry_after).body().to_string()],
    }
}
