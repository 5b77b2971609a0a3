use std::fs;
use std::str::FromStr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, Request, State as Extract};
use axum::response::Response;
use litemoe_core::{Budget, Criterion, ExpertScores, Sampling};

use crate::api::adapters::of_app;
use crate::api::archive::Archive;
use crate::api::blocking::blocking;
use crate::api::body;
use crate::api::error::ApiError;
use crate::api::query::Query;
use crate::api::registry_error::unwritten;
use crate::apps::Apps;
use crate::caller::Caller;
use crate::proxies::{ProxyDesk, ProxyError};
use crate::slots::Slot;
use crate::state::{Shared, State};
use crate::{ProxyRequest, RequestLimits};

/// Files of the archive.
const PLAN: &str = "plan.json";
const PROXY: &str = "proxy";

/// `POST /v1/apps/me/scores`: the plan and the proxy of an app's scores, as a tar archive. The app tunes an adapter on the
/// proxy, and sends the adapter alone.
pub(crate) async fn extract(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let begun = begin(&state, &caller, query.as_deref());
    let Begun { apps, desk, slot, budget, score } = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            body::refuse(request, &state).await;
            return Err(refusal);
        }
    };
    // The scores of a model of many experts are larger than other bodies.
    let received = body::read_within(request, &state, state.quota.max_app()).await?;
    let (sent, reserved) = received.parse(&state, Sent::parse).await?;
    if sent.foundation != apps.adapters.foundation() {
        let message = format!(
            "the scores are of the model {}, but the foundation is {}",
            sent.foundation,
            apps.adapters.foundation()
        );
        return Err(invalid(message));
    }
    let staged = blocking(move || -> Result<_, ApiError> {
        let (scores, archive) = (apps.registry().staged_dir()?, apps.registry().staged_dir()?);
        let file = scores.path().join("scores.json");
        fs::write(&file, &sent.json).map_err(|error| unwritten(&error))?;
        drop((sent, reserved));
        Ok((file, scores, archive))
    });
    let (file, scores, archive) = staged.await??;
    let made = desk.run(move |proxies, cancelled| {
        let (plan, proxy) = (archive.path().join(PLAN), archive.path().join(PROXY));
        let request = ProxyRequest { scores: &file, budget, score, plan: &plan, proxy: &proxy };
        let made = proxies.extract(&request, cancelled);
        drop(scores);
        made.map(|()| archive)
    });
    let archive = made.await.map_err(|_| ApiError::failed())?.map_err(|error| match error {
        ProxyError::Refused(message) => invalid(message),
        ProxyError::Storage => ApiError::storage_full(),
        ProxyError::Cancelled | ProxyError::Failed => ApiError::failed(),
    })?;
    let archive = move || {
        let folder = archive.path().to_owned();
        Archive::of(&folder, (archive, slot))
    };
    let archive = blocking(archive).await?.map_err(|error| unwritten(&error))?;
    Ok(archive.into_response("proxy.tar"))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("invalid_scores", message)
}

/// A request that is allowed.
struct Begun<'s> {
    apps: Arc<Apps>,
    desk: &'s ProxyDesk,
    slot: Slot,
    budget: Option<Budget>,
    score: Option<Criterion>,
}

fn begin<'s>(
    state: &'s State,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Begun<'s>, ApiError> {
    let (apps, app) = of_app(state, caller)?;
    let desk = state.desk.as_ref().ok_or_else(ApiError::no_proxies)?;
    // A proxy has its weights.
    let foundation = &state.models.foundation().name;
    if !app.settings.models.has(foundation) {
        return Err(ApiError::unknown_model(foundation));
    }
    let mut query = Query::parse(query)?;
    let (budget, score) = (given(&mut query, "budget")?, given(&mut query, "score")?);
    query.finish()?;
    let slot = desk.slots.begin(&app.name);
    let slot = slot.map_err(|too_many| ApiError::too_many(too_many, state.options.retry_after))?;
    Ok(Begun { apps, desk, slot, budget, score })
}

fn given<T: FromStr<Err: ToString>>(query: &mut Query, name: &str) -> Result<Option<T>, ApiError> {
    let parsed = query.take(name).map(|value| value.parse::<T>()).transpose();
    parsed.map_err(|error| {
        ApiError::bad_request("invalid_value", format!("`{name}`: {}", error.to_string())).of(name)
    })
}

/// The scores that an app sent.
struct Sent {
    foundation: String,
    json: Vec<u8>,
}

impl Sent {
    fn parse(body: &[u8], _: &RequestLimits, _: &Sampling) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(body).map_err(|_| invalid("the scores are not UTF-8"))?;
        let scores = ExpertScores::from_json(text).map_err(|error| invalid(error.to_string()))?;
        match scores.layers.iter().find(|(_, sums)| !sums.is_finite()) {
            Some((layer, _)) => {
                Err(invalid(format!("the sums of layer {layer} are not finite numbers")))
            }
            None => Ok(Self { foundation: scores.fingerprint.to_string(), json: body.to_vec() }),
        }
    }
}
