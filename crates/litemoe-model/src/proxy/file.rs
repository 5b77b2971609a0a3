use std::io::Write;
use std::path::{Path, PathBuf};

use litemoe_files::{StagedDir, StagedFile};
use serde::Serialize;

use crate::ModelError;

/// Staged directory of a proxy, and its target path.
pub(super) struct ProxyDir<'a> {
    pub(super) dir: StagedDir,
    pub(super) target: &'a Path,
}

impl ProxyDir<'_> {
    pub(super) fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut ProxyFile<'_>) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let path = self.target.join(name);
        let file = self.dir.file(name).map_err(ModelError::io(&path))?;
        write(&mut ProxyFile { path, file })
    }
}

/// File of a staged proxy; I/O errors name its path in the target.
pub(crate) struct ProxyFile<'a> {
    path: PathBuf,
    file: StagedFile<'a>,
}

impl ProxyFile<'_> {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.file.write_all(bytes).map_err(ModelError::io(&self.path))
    }

    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), ModelError> {
        let path = self.path.clone();
        let mut json =
            serde_json::to_vec_pretty(value).map_err(|source| ModelError::Json { path, source })?;
        json.push(b'\n');
        self.bytes(&json)
    }
}
