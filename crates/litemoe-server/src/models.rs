use std::sync::Arc;

use litemoe_core::MountedAdapter;

use crate::ServerError;

/// A served model.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: String,
    /// The mounted adapter; `None` for the foundation itself.
    pub(crate) mounted: Option<Arc<MountedAdapter>>,
}

/// Models that are served from the start: the foundation first, then adapters in the order they were added.
#[derive(Debug)]
pub(crate) struct Models {
    foundation: Served,
    adapters: Vec<Served>,
}

impl Models {
    pub(crate) fn new(foundation: String) -> Result<Self, ServerError> {
        match foundation.is_empty() {
            true => Err(ServerError::NoName),
            false => Ok(Self {
                foundation: Served { name: foundation, mounted: None },
                adapters: Vec::new(),
            }),
        }
    }

    pub(crate) fn add(&mut self, name: String, mounted: MountedAdapter) -> Result<(), ServerError> {
        if name.is_empty() {
            return Err(ServerError::NoName);
        }
        if self.iter().any(|served| served.name == name) {
            return Err(ServerError::SameName { name });
        }
        self.adapters.push(Served { name, mounted: Some(Arc::new(mounted)) });
        Ok(())
    }

    pub(crate) fn foundation(&self) -> &Served {
        &self.foundation
    }

    /// An adapter.
    pub(crate) fn adapter(&self, name: &str) -> Option<&Served> {
        self.adapters.iter().find(|served| served.name == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Served> {
        std::iter::once(&self.foundation).chain(&self.adapters)
    }
}
