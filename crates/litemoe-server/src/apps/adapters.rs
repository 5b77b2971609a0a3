use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use litemoe_core::{MoeLayer, MountedAdapter};
use litemoe_registry::{
    AdapterFile, AdapterName, App, Owner, Registry, RegistryError, StoredAdapter,
};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

use crate::{FittingAdapter, FoundationId};

/// Adapters that are loaded at the same time.
const MAX_LOADS: usize = 2;

/// Loads the adapter of a directory for the served foundation. The error is shown to the app that uploads an adapter, so
/// it must not name files of the machine.
pub(crate) type Loader = Arc<dyn Fn(&Path) -> Result<FittingAdapter, String> + Send + Sync>;

/// Adapters of a registry that are made for the served foundation. Each generation is loaded when it is first used, so
/// that what is stored, replaced and removed is served, replaced and gone at once; requests that run keep the one that
/// they began with.
pub(crate) struct StoredAdapters {
    registry: Registry,
    foundation: FoundationId,
    layers: Vec<MoeLayer>,
    loader: Loader,
    bounds: AdapterBounds,
    loads: Semaphore,
    /// The least recently used first.
    loaded: Mutex<Vec<Loaded>>,
}

/// How many adapters are in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdapterBounds {
    pub(crate) max_adapters: usize,
    /// Maximum bytes of their files; a single adapter may have more.
    pub(crate) max_bytes: u64,
}

#[derive(Debug)]
struct Loaded {
    generation: u64,
    owner: Owner,
    /// Bytes of its files.
    bytes: u64,
    mounted: Arc<OnceCell<Arc<MountedAdapter>>>,
}

/// Reason for which an adapter of the registry is not loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    Registry(RegistryError),
    /// It does not fit the foundation.
    Unfit(String),
    /// Another generation has replaced it, with files of so many bytes.
    Replaced {
        by: u64,
        bytes: u64,
    },
    Panicked,
}

impl StoredAdapters {
    pub(crate) fn new(
        registry: Registry,
        foundation: FoundationId,
        layers: Vec<MoeLayer>,
        loader: Loader,
        bounds: AdapterBounds,
    ) -> Self {
        let (loads, loaded) = (Semaphore::new(MAX_LOADS), Mutex::default());
        Self { registry, foundation, layers, loader, bounds, loads, loaded }
    }

    /// Fingerprint of the served foundation.
    pub(crate) fn foundation(&self) -> &str {
        &self.foundation.fingerprint
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
        self.foundation.takes(&adapter.provenance.foundation)
    }

    /// Loads the adapter of a directory, and checks that it fits the foundation.
    pub(crate) fn load(&self, dir: &Path) -> Result<FittingAdapter, String> {
        let adapter = (self.loader)(dir)?;
        adapter.mounted.check_routing(&self.layers).map_err(|error| error.to_string())?;
        Ok(adapter)
    }

    /// Waits until an adapter may be loaded: each load takes memory, and a forward pass.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.loads.acquire().await.expect("the semaphore is never closed")
    }

    /// The adapter in memory. If it was replaced since it was found, the one that replaces it. A load that has begun goes on
    /// when the request that wanted it ends, so that the next finds it.
    pub(crate) async fn mounted(
        self: &Arc<Self>,
        adapter: StoredAdapter,
    ) -> Result<Arc<MountedAdapter>, LoadError> {
        let StoredAdapter { owner, name, mut generation, files, .. } = adapter;
        let mut n_bytes = bytes_of(&files);
        loop {
            let cell = self.cell(generation, &owner, n_bytes);
            if let Some(mounted) = cell.get() {
                return Ok(mounted.clone());
            }
            let (this, owner, name) = (self.clone(), owner.clone(), name.clone());
            let loading = tokio::spawn(async move {
                let load = || this.load_stored(owner, name, generation);
                cell.get_or_try_init(load).await.cloned()
            });
            match loading.await.unwrap_or(Err(LoadError::Panicked)) {
                Err(LoadError::Replaced { by, bytes }) => {
                    self.forget(generation);
                    (generation, n_bytes) = (by, bytes);
                }
                Err(error) => {
                    self.forget(generation);
                    return Err(error);
                }
                Ok(mounted) => return Ok(mounted),
            }
        }
    }

    async fn load_stored(
        self: &Arc<Self>,
        owner: Owner,
        name: AdapterName,
        generation: u64,
    ) -> Result<Arc<MountedAdapter>, LoadError> {
        let _turn = self.turn().await;
        let this = self.clone();
        let read = move || this.registry.read_adapter(&owner, &name, |dir| this.load(dir));
        let read = spawn_blocking(read).await.map_err(|_| LoadError::Panicked)?;
        let (adapter, loaded) = read.map_err(LoadError::Registry)?;
        match adapter.generation {
            found if found == generation => Ok(Arc::new(loaded.map_err(LoadError::Unfit)?.mounted)),
            by => Err(LoadError::Replaced { by, bytes: bytes_of(&adapter.files) }),
        }
    }

    /// Place of a generation in memory. If there are too many, or too large ones, the least recently used of the owner that
    /// has the most loses its own.
    fn cell(
        &self,
        generation: u64,
        owner: &Owner,
        bytes: u64,
    ) -> Arc<OnceCell<Arc<MountedAdapter>>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.iter().position(|loaded| loaded.generation == generation);
        let used = match known {
            Some(index) => loaded.remove(index),
            None => Loaded { generation, owner: owner.clone(), bytes, mounted: Arc::default() },
        };
        let mounted = used.mounted.clone();
        let AdapterBounds { max_adapters, max_bytes } = self.bounds;
        while loaded.len() >= max_adapters {
            evict(&mut loaded, |_| 1);
        }
        let held = |loaded: &[Loaded]| loaded.iter().map(|loaded| loaded.bytes).sum::<u64>();
        while !loaded.is_empty() && held(&loaded).saturating_add(used.bytes) > max_bytes {
            evict(&mut loaded, |loaded| loaded.bytes);
        }
        loaded.push(used);
        mounted
    }

    /// Gives up the place of a generation that was not loaded.
    fn forget(&self, generation: u64) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|loaded| loaded.generation != generation || loaded.mounted.initialized());
    }
}

fn bytes_of(files: &[AdapterFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

/// Gives up the least recently used adapter of the owner that has the most of something.
fn evict(loaded: &mut Vec<Loaded>, weight: impl Fn(&Loaded) -> u64) {
    let of = |owner: &Owner| {
        loaded.iter().filter(|other| other.owner == *owner).map(&weight).sum::<u64>()
    };
    let most = loaded.iter().map(|loaded| of(&loaded.owner)).max();
    let victim = loaded.iter().position(|loaded| Some(of(&loaded.owner)) == most);
    victim.map(|victim| loaded.remove(victim));
}

impl fmt::Debug for StoredAdapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAdapters")
            .field("foundation", &self.foundation)
            .finish_non_exhaustive()
    }
}
