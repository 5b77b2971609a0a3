use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::api::error::ApiError;

/// The id or name in a path.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::from_request_parts(parts, state).await.map_err(|_| {
            ApiError::bad_request("invalid_value", "the path's last part is not text in UTF-8")
        })?;
        Ok(Self(id))
    }
}
