use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use litemoe_registry::{Registry, RegistryError};

/// An environment variable that is not empty.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// `--registry` option.
#[derive(Debug, Clone, Args)]
pub(crate) struct RegistryArgs {
    /// Directory of the registry of apps [default: $LITEMOE_REGISTRY, else litemoe/registry in $XDG_DATA_HOME or
    /// ~/.local/share].
    #[arg(long, value_name = "DIR")]
    registry: Option<PathBuf>,
}

impl RegistryArgs {
    /// Opens the registry.
    pub(crate) fn open(&self) -> anyhow::Result<Registry> {
        Registry::open(&self.dir()?).map_err(explained)
    }

    /// Opens the registry; `None` if none is named and there is none at the default place.
    pub(crate) fn open_if_any(&self) -> anyhow::Result<Option<Registry>> {
        let is_named = self.registry.is_some() || variable("LITEMOE_REGISTRY").is_some();
        // Without a home folder there is no default place.
        let Ok(dir) = self.dir() else { return Ok(None) };
        match Registry::open(&dir) {
            Err(RegistryError::NoRegistry { .. }) if !is_named => Ok(None),
            opened => opened.map(Some).map_err(explained),
        }
    }

    /// Opens the registry, or creates it.
    pub(crate) fn create(&self) -> anyhow::Result<Registry> {
        Ok(Registry::create(&self.dir()?)?)
    }

    /// Directory of the registry.
    pub(crate) fn dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) =
            self.registry.clone().or_else(|| Some(variable("LITEMOE_REGISTRY")?.into()))
        {
            return Ok(dir);
        }
        let data = variable("XDG_DATA_HOME").map(PathBuf::from);
        let home = || env::home_dir().map(|home| home.join(".local/share"));
        let data = data.or_else(home).context("there is no home folder: give --registry")?;
        Ok(data.join(Path::new("litemoe/registry")))
    }
}

fn explained(error: RegistryError) -> anyhow::Error {
    match error {
        RegistryError::NoRegistry { .. } => {
            anyhow!("{error}: name another with --registry, or begin one with `litemoe app add`")
        }
        error => error.into(),
    }
}
