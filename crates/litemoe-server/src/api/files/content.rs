use std::fs::File;
use std::io::{self, Read};

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::app_caller::AppCaller;
use crate::api::error::ApiError;
use crate::api::id::Id;
use crate::api::streamed::{CHUNK, streamed};

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
    Ok((headers, streamed(content, chunk)).into_response())
}

/// The next bytes of a content; none at its end.
fn chunk(content: &mut File) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::new();
    content.take(CHUNK).read_to_end(&mut chunk)?;
    Ok(chunk)
}
