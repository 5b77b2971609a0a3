//! Copies of checkpoints with edits.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::setup::tiny;

/// Tensor in memory.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Raw {
    /// Bytes of row `row`.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        let width = self.bytes.len() / self.shape[0];
        &self.bytes[row * width..][..width]
    }
}

/// Copy of a fixture, deleted with the test.
pub(crate) struct Copy {
    folder: TempDir,
}

impl Copy {
    pub(crate) fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(tiny(name)).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
        }
        Self { folder }
    }

    /// With the files of another directory.
    pub(crate) fn replaced_by(self, dir: &Path) -> Self {
        for entry in fs::read_dir(self.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for entry in fs::read_dir(dir).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, self.file(from.file_name().unwrap().to_str().unwrap())).unwrap();
        }
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Edits `config.json`.
    pub(crate) fn config(self, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        self.json("config.json", change)
    }

    pub(crate) fn json(self, name: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        let path = self.file(name);
        let mut fields = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut fields);
        fs::write(&path, serde_json::to_vec(&fields).unwrap()).unwrap();
        self
    }

    /// Edits the tensors; they end up in one file.
    pub(crate) fn tensors(self, change: impl FnOnce(&mut BTreeMap<String, Raw>)) -> Self {
        let mut tensors = BTreeMap::new();
        for entry in fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                tensors.extend(read(&path));
                fs::remove_file(&path).unwrap();
            }
        }
        change(&mut tensors);
        fs::write(self.file("model.safetensors"), encode(&tensors)).unwrap();
        self
    }
}

/// A safetensors file.
pub(crate) fn encode(tensors: &BTreeMap<String, Raw>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, raw)| {
        (name, TensorView::new(raw.dtype, raw.shape.clone(), &raw.bytes).unwrap())
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(format)).unwrap()
}

pub(crate) fn read(path: &Path) -> BTreeMap<String, Raw> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |view: &TensorView<'_>| Raw {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    tensors.iter().map(|(name, view)| (name.to_owned(), raw(&view))).collect()
}
