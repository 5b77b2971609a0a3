use litemoe_registry::{RegistryError, StoredAdapter};

use crate::api::blocking::blocking;
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::apps::{Apps, LoadError};
use crate::caller::Caller;
use crate::models::Served;
use crate::state::State;

/// The model that a caller means by a name: the foundation, its own adapter, or one that no app owns. One that it may not
/// use is refused as one that does not exist.
pub(crate) async fn find(state: &State, caller: &Caller, name: &str) -> Result<Served, ApiError> {
    let unknown = || ApiError::unknown_model(name);
    let foundation = state.models.foundation();
    if name == foundation.name {
        return caller.may_use_model(name).then(|| foundation.clone()).ok_or_else(unknown);
    }
    if let (Some(apps), Some(_)) = (&state.apps, caller.app())
        && let Some(adapter) = stored(apps, caller, name).await?
    {
        return load(apps, adapter, name).await;
    }
    let fixed = state.models.adapter(name).filter(|_| caller.may_use_shared(name));
    fixed.cloned().ok_or_else(unknown)
}

/// Checks that a caller may use the model of a name, without loading it.
pub(crate) async fn check(
    state: &State,
    caller: &Caller,
    name: &str,
    record: &Record,
) -> Result<(), ApiError> {
    let foundation = &state.models.foundation().name;
    let is_usable = match &state.apps {
        _ if name == foundation => caller.may_use_model(name),
        Some(apps) if stored(apps, caller, name).await?.is_some() => true,
        _ => state.models.adapter(name).is_some() && caller.may_use_shared(name),
    };
    if !is_usable {
        return Err(ApiError::unknown_model(name));
    }
    let _ = record.model.set(name.to_owned());
    Ok(())
}

/// The adapter of the registry that a caller means by a name.
pub(crate) async fn stored(
    apps: &Apps,
    caller: &Caller,
    name: &str,
) -> Result<Option<StoredAdapter>, ApiError> {
    let Some(app) = caller.app().cloned() else { return Ok(None) };
    let (adapters, name) = (apps.adapters.clone(), name.to_owned());
    Ok(blocking(move || adapters.usable(&app, &name)).await??)
}

async fn load(apps: &Apps, adapter: StoredAdapter, name: &str) -> Result<Served, ApiError> {
    match apps.adapters.mounted(adapter).await {
        Ok(mounted) => Ok(Served { name: name.to_owned(), mounted: Some(mounted) }),
        Err(LoadError::Registry(RegistryError::NoAdapter { .. })) => {
            Err(ApiError::unknown_model(name))
        }
        Err(LoadError::Registry(error)) => Err(error.into()),
        Err(LoadError::Unfit(reason)) => {
            tracing::error!(adapter = name, reason, "an adapter cannot be loaded");
            Err(ApiError::unloadable(name))
        }
        Err(LoadError::Replaced { .. } | LoadError::Panicked) => Err(ApiError::failed()),
    }
}
