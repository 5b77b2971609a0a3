//! A registry in a temporary directory, with a clock that the test sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use litemoe_registry::{
    AdapterName, App, AppName, NewAdapter, Owner, Provenance, Registry, RegistryError, Settings,
    StoredAdapter, StoredFile,
};
use serde_json::json;
use tempfile::{TempDir, tempdir};

/// 2026-11-27 00:00 UTC.
pub(crate) const MIDNIGHT: u64 = 1_795_737_600;

pub(crate) struct Scene {
    dir: TempDir,
    pub(crate) registry: Registry,
    now: Arc<AtomicU64>,
}

impl Scene {
    /// A registry without apps, at midnight.
    pub(crate) fn new() -> Self {
        let dir = tempdir().expect("a directory");
        let now = Arc::new(AtomicU64::new(MIDNIGHT));
        let registry = Registry::create(&dir.path().join("registry")).expect("a registry");
        let clock = now.clone();
        let registry = registry
            .with_clock(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst)));
        Self { dir, registry, now }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Sets the clock to seconds after midnight.
    pub(crate) fn set_clock(&self, seconds: i64) {
        let time = MIDNIGHT.checked_add_signed(seconds).expect("a time");
        self.now.store(time, Ordering::SeqCst);
    }

    /// Adds an app, and returns its key.
    pub(crate) fn add(&self, name: &str) -> (App, String) {
        let key = self.registry.add_app(&app(name), &Settings::default()).expect("added").reveal();
        (self.registry.app(&app(name)).expect("an app"), key)
    }

    /// A folder with these files.
    pub(crate) fn folder(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir_all(&dir).expect("a folder");
        for (name, content) in files {
            fs::write(dir.join(name), content).expect("a file");
        }
        dir
    }

    /// Stores a folder's files as an adapter.
    pub(crate) fn put(
        &self,
        owner: &Owner,
        name: &str,
        dir: &Path,
        replaces: Option<u64>,
    ) -> Result<StoredAdapter, RegistryError> {
        let (name, provenance) = (adapter(name), provenance());
        let new = NewAdapter { owner, name: &name, dir, provenance: &provenance, replaces };
        self.registry.put_adapter(&new)
    }

    pub(crate) fn upload(&self, owner: &str, content: &[u8]) -> Result<StoredFile, RegistryError> {
        let mut upload = self.registry.upload()?;
        std::io::Write::write_all(&mut upload, content).expect("written");
        let name = "rows.jsonl".parse().expect("a name");
        self.registry.add_file(&app(owner), &name, "fine-tune", upload)
    }

    /// Names of the contents.
    pub(crate) fn contents(&self) -> Vec<String> {
        names(&self.path("registry/files"))
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

pub(crate) fn app(name: &str) -> AppName {
    name.parse().expect("an app's name")
}

pub(crate) fn adapter(name: &str) -> AdapterName {
    name.parse().expect("an adapter's name")
}

pub(crate) fn owned(name: &str) -> Owner {
    Owner::App(app(name))
}

pub(crate) fn provenance() -> Provenance {
    Provenance {
        foundation: "f00d".to_owned(),
        plan: Some("91a9".to_owned()),
        data: None,
        metrics: json!({"loss": 0.25, "rows": 300}),
    }
}
