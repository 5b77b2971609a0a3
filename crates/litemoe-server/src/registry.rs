use std::sync::Arc;

use litemoe_core::MountedAdapter;

use crate::ServerError;

/// A served model.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: String,
    /// The app's mounted adapter; `None` for the foundation itself.
    pub(crate) mounted: Option<Arc<MountedAdapter>>,
}

/// Served models by name: the foundation first, then its adapters in the order they were added.
#[derive(Debug)]
pub(crate) struct Registry {
    foundation: Served,
    adapters: Vec<Served>,
}

impl Registry {
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
        if self.find(&name).is_some() {
            return Err(ServerError::SameName { name });
        }
        self.adapters.push(Served { name, mounted: Some(Arc::new(mounted)) });
        Ok(())
    }

    pub(crate) fn foundation(&self) -> &str {
        &self.foundation.name
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Served> {
        self.iter().find(|served| served.name == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Served> {
        std::iter::once(&self.foundation).chain(&self.adapters)
    }
}
