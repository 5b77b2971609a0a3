use std::fs::File;
use std::io::Read;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream::try_unfold;
use tokio::task::spawn_blocking;

use crate::api::app_caller::AppCaller;
use crate::api::error::ApiError;
use crate::api::id::Id;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// `GET /v1/files/{id}/content`
pub(crate) async fn content(caller: AppCaller, Id(id): Id) -> Result<Response, ApiError> {
    let (info, content) = caller
        .run(move |registry, app| {
            let info = registry.file(app, &id)?;
            Ok((info, registry.open_file(app, &id)?))
        })
        .await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, info.bytes.to_string()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
    ];
    let body = Body::from_stream(try_unfold(content, |content| async {
        let read = spawn_blocking(move || chunk(content)).await;
        read.map_err(std::io::Error::other)?
    }));
    Ok((headers, body).into_response())
}

/// The next bytes of a content; `None` at its end.
fn chunk(mut content: File) -> std::io::Result<Option<(Vec<u8>, File)>> {
    let mut chunk = Vec::new();
    (&mut content).take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok((!chunk.is_empty()).then_some((chunk, content)))
}
