use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use litemoe_core::{MoeLayer, MountedAdapter};
use litemoe_registry::{AdapterName, App, Registry, RegistryError, StoredAdapter};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

/// Loads the adapter of a directory for the served foundation. The error is shown to the app that uploads an adapter, so
/// it must not name files of the machine.
pub(crate) type Loader = Arc<dyn Fn(&Path) -> Result<MountedAdapter, String> + Send + Sync>;

/// Adapters of a registry that are made for the served foundation. Each generation is loaded when it is first used, so
/// that what is stored, replaced and removed is served, replaced and gone at once; requests that run keep the one that
/// they began with.
pub(crate) struct StoredAdapters {
    registry: Registry,
    /// Fingerprint of the served foundation.
    foundation: String,
    layers: Vec<MoeLayer>,
    loader: Loader,
    max_loaded: usize,
    /// The least recently used first.
    loaded: Mutex<Vec<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    generation: u64,
    mounted: Arc<OnceCell<Arc<MountedAdapter>>>,
}

/// Reason for which an adapter of the registry is not loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    Registry(RegistryError),
    /// It does not fit the foundation.
    Unfit(String),
    /// Another generation has replaced it.
    Replaced(u64),
    Panicked,
}

impl StoredAdapters {
    pub(crate) fn new(
        registry: Registry,
        foundation: String,
        layers: Vec<MoeLayer>,
        loader: Loader,
        max_loaded: usize,
    ) -> Self {
        Self { registry, foundation, layers, loader, max_loaded, loaded: Mutex::default() }
    }

    /// Fingerprint of the served foundation.
    pub(crate) fn foundation(&self) -> &str {
        &self.foundation
    }

    /// The adapter that an app means by a name, if it is made for the foundation.
    pub(crate) fn usable(
        &self,
        app: &App,
        name: &str,
    ) -> Result<Option<StoredAdapter>, RegistryError> {
        let Ok(name) = name.parse::<AdapterName>() else { return Ok(None) };
        match self.registry.usable_adapter(app, &name) {
            Ok(adapter) => Ok(Some(adapter).filter(|adapter| self.is_served(adapter))),
            Err(RegistryError::NoAdapter { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The adapters that an app may use, by name.
    pub(crate) fn all_usable(&self, app: &App) -> Result<Vec<StoredAdapter>, RegistryError> {
        let mut adapters = self.registry.usable_adapters(app)?;
        adapters.retain(|adapter| self.is_served(adapter));
        Ok(adapters)
    }

    fn is_served(&self, adapter: &StoredAdapter) -> bool {
        adapter.provenance.foundation == self.foundation
    }

    /// Loads the adapter of a directory, and checks that it fits the foundation.
    pub(crate) fn load(&self, dir: &Path) -> Result<MountedAdapter, String> {
        let mounted = (self.loader)(dir)?;
        mounted.check_routing(&self.layers).map_err(|error| error.to_string())?;
        Ok(mounted)
    }

    /// The adapter in memory. If it was replaced since it was found, the one that replaces it.
    pub(crate) async fn mounted(
        self: &Arc<Self>,
        adapter: StoredAdapter,
    ) -> Result<Arc<MountedAdapter>, LoadError> {
        let StoredAdapter { owner, name, mut generation, .. } = adapter;
        loop {
            let cell = self.cell(generation);
            if let Some(mounted) = cell.get() {
                return Ok(mounted.clone());
            }
            let (this, owner, name) = (self.clone(), owner.clone(), name.clone());
            let mounted = cell.get_or_try_init(|| async {
                let read = move || this.registry.read_adapter(&owner, &name, |dir| this.load(dir));
                let read = spawn_blocking(read).await.map_err(|_| LoadError::Panicked)?;
                let (adapter, mounted) = read.map_err(LoadError::Registry)?;
                match adapter.generation {
                    found if found == generation => {
                        Ok(Arc::new(mounted.map_err(LoadError::Unfit)?))
                    }
                    found => Err(LoadError::Replaced(found)),
                }
            });
            match mounted.await {
                Err(LoadError::Replaced(by)) => generation = by,
                mounted => return mounted.cloned(),
            }
        }
    }

    /// Place of a generation in memory. Others that were not used for longer lose theirs.
    fn cell(&self, generation: u64) -> Arc<OnceCell<Arc<MountedAdapter>>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.iter().position(|loaded| loaded.generation == generation);
        let used = match known {
            Some(index) => loaded.remove(index),
            None => Loaded { generation, mounted: Arc::default() },
        };
        let mounted = used.mounted.clone();
        loaded.push(used);
        let n_over = loaded.len().saturating_sub(self.max_loaded);
        loaded.drain(..n_over);
        mounted
    }
}

impl fmt::Debug for StoredAdapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAdapters")
            .field("foundation", &self.foundation)
            .finish_non_exhaustive()
    }
}
