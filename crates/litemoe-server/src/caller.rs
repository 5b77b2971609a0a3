use std::net::IpAddr;
use std::sync::Arc;

use litemoe_registry::{App, Priority};

use crate::client::Peer;

/// Who sent a request, after authentication.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// An app, by its key.
    App(Arc<App>),
    /// Somebody without a key, where none is asked for, by the address.
    Open(Option<IpAddr>),
}

impl Caller {
    pub(crate) fn peer(&self) -> Peer {
        match self {
            Self::App(app) => Peer::App(app.name.clone()),
            Self::Open(address) => Peer::Address(*address),
        }
    }

    pub(crate) fn app(&self) -> Option<&Arc<App>> {
        match self {
            Self::App(app) => Some(app),
            Self::Open(_) => None,
        }
    }

    /// Whether the caller may use the foundation of a name.
    pub(crate) fn may_use_model(&self, name: &str) -> bool {
        self.app().is_none_or(|app| app.settings.models.has(name))
    }

    /// Whether the caller may use the adapter of a name that no app owns.
    pub(crate) fn may_use_shared(&self, name: &str) -> bool {
        self.app().is_none_or(|app| app.settings.adapters.has(name))
    }

    /// Whether its requests wait while others run.
    pub(crate) fn is_background(&self) -> bool {
        self.app().is_some_and(|app| app.settings.priority == Priority::Background)
    }
}
