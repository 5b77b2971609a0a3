use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::http::StatusCode;
use litemoe_registry::RegistryError;

use crate::api::error::ApiError;

/// `Retry-After` while another process writes to the registry.
const BUSY: Duration = Duration::from_secs(1);

/// The error of writing what is received to the registry.
pub(crate) fn unwritten(error: &io::Error) -> ApiError {
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            RegistryError::ReadOnly { reason }.into()
        }
        _ => RegistryError::Storage { reason }.into(),
    }
}

impl From<RegistryError> for ApiError {
    /// Without files of the machine.
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::Name(_) | RegistryError::FileName(_) => {
                Self::bad_request("invalid_value", message)
            }
            RegistryError::NoFile { .. }
            | RegistryError::NoJob { .. }
            | RegistryError::NoAdapter { .. } => {
                Self::coded(StatusCode::NOT_FOUND, "not_found", message)
            }
            // Since the entity tag was checked.
            RegistryError::OtherGeneration { .. } | RegistryError::AdapterExists { .. } => {
                let message = "the adapter was changed by another request";
                Self::coded(StatusCode::PRECONDITION_FAILED, "other_content", message)
            }
            RegistryError::JobIs { .. } => {
                Self::coded(StatusCode::CONFLICT, "invalid_state", message)
            }
            RegistryError::FileInUse { .. } => {
                Self::coded(StatusCode::CONFLICT, "file_in_use", message)
            }
            // Nothing that time alone mends: clients must not try again.
            RegistryError::TooManyBytes { .. } => {
                Self::coded(StatusCode::FORBIDDEN, "storage_limit_reached", message)
            }
            RegistryError::TooManyFiles { .. } | RegistryError::TooManyJobs { .. } => {
                Self::coded(StatusCode::TOO_MANY_REQUESTS, "limit_reached", message)
            }
            RegistryError::Spec(error) => {
                Self::bad_request("invalid_value", message).of(error.field)
            }
            // Since the key was checked.
            RegistryError::Revoked { .. } | RegistryError::NoApp { .. } => Self::no_app(true),
            RegistryError::Busy => {
                let busy = "another process is writing to the service's registry";
                Self::coded(StatusCode::SERVICE_UNAVAILABLE, "overloaded", busy).after(BUSY)
            }
            RegistryError::Storage { .. } => {
                tracing::error!(error = message, "the registry cannot be written to");
                Self::storage_full()
            }
            RegistryError::ReadOnly { .. } => {
                tracing::error!(error = message, "the registry cannot be written to");
                let read_only = "the service's registry cannot be written to";
                Self::coded(StatusCode::SERVICE_UNAVAILABLE, "read_only", read_only)
            }
            _ => {
                tracing::error!(error = message, "the registry fails");
                Self::coded(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "registry_failed",
                    "the service's registry fails; the server's log says why",
                )
            }
        }
    }
}
