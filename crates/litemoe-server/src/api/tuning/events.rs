use axum::extract::RawQuery;
use litemoe_registry::{Job, JobEvent};
use serde_json::{Value, json};

use super::{LISTED, MAX_LISTED};
use crate::api::app_caller::AppCaller;
use crate::api::error::ApiError;
use crate::api::id::Id;
use crate::api::query::{Listed, Query, cut};

/// `GET /v1/fine_tuning/jobs/{id}/events`, newest first.
pub(crate) async fn events(
    caller: AppCaller,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<Listed, ApiError> {
    let mut query = Query::parse(query.as_deref())?;
    let part = query.part(LISTED, MAX_LISTED)?;
    query.finish()?;
    caller
        .run(move |registry, app| {
            let job = registry.job(app, &id)?;
            // A job has a few hundred.
            let mut events = registry.job_events(app, &id, 0, u32::MAX)?;
            events.reverse();
            let mut data: Vec<Value> = events.iter().map(|event| shown(&job, event)).collect();
            if let Some(after) = part.after {
                let place = data.iter().position(|event| event["id"] == *after);
                let place = place.ok_or_else(|| {
                    ApiError::not_found(format!("there is no event `{after}`")).of("after")
                })?;
                data = data.split_off(place + 1);
            }
            let (data, has_more) = cut(data, part.limit as usize);
            Ok(Listed { data, has_more })
        })
        .await
}

fn shown(job: &Job, event: &JobEvent) -> Value {
    let id = job.id.replacen("job-", "ftevent-", 1);
    let is_metrics = event.data.get("step").is_some();
    json!({
        "object": "fine_tuning.job.event",
        "id": format!("{id}-{}", event.number),
        "created_at": event.created.0,
        "level": event.level,
        "message": event.message,
        "type": if is_metrics { "metrics" } else { "message" },
        "data": event.data,
    })
}
