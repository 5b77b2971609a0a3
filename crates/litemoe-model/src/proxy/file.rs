use std::io::Write;
use std::path::{Path, PathBuf};

use litemoe_files::{StagedDir, StagedFile};
use serde::Serialize;

use crate::ModelError;

/// Staged directory of a proxy or a fused model, and its target path.
pub(crate) struct ProxyDir<'a> {
    pub(crate) dir: StagedDir,
    pub(crate) target: &'a Path,
}

impl ProxyDir<'_> {
    pub(crate) fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut ProxyFile<'_>) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let path = self.target.join(name);
        let file = self.dir.file(name).map_err(ModelError::io(&path))?;
        write(&mut ProxyFile { path, file })
    }
}

/// File of a staged directory; I/O errors name its path in the target.
pub(crate) struct ProxyFile<'a> {
    path: PathBuf,
    file: StagedFile<'a>,
}

impl ProxyFile<'_> {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.file.write_all(bytes).map_err(ModelError::io(&self.path))
    }

    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), ModelError> {
        let path = self.path.clone();
        let mut json =
            serde_json::to_vec_pretty(value).map_err(|source| ModelError::Json { path, source })?;
        json.push(b'\n');
        self.bytes(&json)
    }

    /// Writes JSON without indentation, for values that may be large.
    pub(crate) fn compact_json(&mut self, value: &impl Serialize) -> Result<(), ModelError> {
        let path = self.path.clone();
        let json = serde_json::to_vec(value).map_err(|source| ModelError::Json { path, source })?;
        self.bytes(&json)
    }
}
