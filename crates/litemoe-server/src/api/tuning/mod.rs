//! Fine-tuning jobs of apps: `/v1/fine_tuning/jobs`.

mod events;
mod request;
mod shown;

use axum::Extension;
use axum::Json;
use axum::extract::{RawQuery, Request, State as Extract};
use litemoe_registry::RegistryError;
use serde_json::Value;

pub(crate) use self::events::events;
pub(crate) use self::request::TuningRequest;
use self::shown::{checkpoint, shown};
use crate::api::app_caller::AppCaller;
use crate::api::body;
use crate::api::error::ApiError;
use crate::api::id::Id;
use crate::api::query::{Listed, Query};
use crate::caller::Caller;
use crate::state::Shared;

/// Number of jobs and events in a part of a list without `limit`, and maximum.
const LISTED: u32 = 20;
const MAX_LISTED: u32 = 100;

/// `POST /v1/fine_tuning/jobs`
pub(crate) async fn create(
    Extract(state): Shared,
    caller: AppCaller,
    Extension(access): Extension<Caller>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let received = body::read(request, &state).await?;
    let (TuningRequest(spec), _reserved) = received.parse(&state, TuningRequest::parse).await?;
    let foundation = &state.models.foundation().name;
    if spec.model != *foundation || !access.may_use_model(foundation) {
        return Err(ApiError::unknown_model(&spec.model));
    }
    caller
        .run(move |registry, app| match registry.create_tuning_job(app, &spec) {
            Ok(job) => Ok(Json(shown(registry, &job)?)),
            Err(error) => {
                let param = match &error {
                    RegistryError::NoFile { id } if *id == spec.training_file => "training_file",
                    RegistryError::NoFile { .. } => "validation_file",
                    _ => return Err(error.into()),
                };
                Err(ApiError::from(error).of(param))
            }
        })
        .await
}

/// `GET /v1/fine_tuning/jobs`
pub(crate) async fn list(caller: AppCaller, RawQuery(query): RawQuery) -> Result<Listed, ApiError> {
    let mut query = Query::parse(query.as_deref())?;
    let part = query.part(LISTED, MAX_LISTED)?;
    query.finish()?;
    caller
        .run(move |registry, app| {
            let (jobs, has_more) = part.read(|page| registry.jobs(app, page))?;
            let data = jobs.iter().map(|job| shown(registry, job));
            Ok(Listed { data: data.collect::<Result<_, _>>()?, has_more })
        })
        .await
}

/// `GET /v1/fine_tuning/jobs/{id}`
pub(crate) async fn one(caller: AppCaller, Id(id): Id) -> Result<Json<Value>, ApiError> {
    caller.run(move |registry, app| Ok(Json(shown(registry, &registry.job(app, &id)?)?))).await
}

/// `POST /v1/fine_tuning/jobs/{id}/cancel`
pub(crate) async fn cancel(caller: AppCaller, Id(id): Id) -> Result<Json<Value>, ApiError> {
    caller
        .run(move |registry, app| Ok(Json(shown(registry, &registry.cancel_job(app, &id)?)?)))
        .await
}

/// `GET /v1/fine_tuning/jobs/{id}/checkpoints`: the adapter of a job that succeeded, else none.
pub(crate) async fn checkpoints(
    caller: AppCaller,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Listed, ApiError> {
    let mut query = Query::parse(query.as_deref())?;
    let part = query.part(LISTED, MAX_LISTED)?;
    query.finish()?;
    caller
        .run(move |registry, app| {
            let found = checkpoint(registry, &registry.job(app, &id)?)?;
            let data: Vec<Value> = found.into_iter().collect();
            match part.after {
                None => Ok(Listed { data, has_more: false }),
                Some(after) if data.iter().any(|one| one["id"] == *after) => {
                    Ok(Listed { data: Vec::new(), has_more: false })
                }
                Some(after) => {
                    let message = format!("there is no checkpoint `{after}`");
                    Err(ApiError::not_found(message).of("after"))
                }
            }
        })
        .await
}
