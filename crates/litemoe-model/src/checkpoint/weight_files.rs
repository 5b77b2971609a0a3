use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use litemoe_files::read_limited;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ModelError;
use crate::checkpoint::header::{MAX_HEADER_BYTES, has_key, path_of, read_file};
use crate::checkpoint::stored::StoredTensors;
use crate::json::for_each_member;

/// Weight files of a directory.
pub(crate) struct Opened {
    pub(crate) tensors: StoredTensors,
    /// Tensors that the index names and no shard holds.
    pub(crate) absent: Vec<Arc<str>>,
}

/// Memory-maps the weight files of a directory: `model.safetensors`, or the shards that the index names.
///
/// Only the shards' names are taken from the index, as in transformers: a tensor may lie in another shard than it says,
/// or be one that it does not name, and the sizes that it states are not read.
pub(crate) fn open(dir: &Path) -> Result<Opened, ModelError> {
    let (single, index) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
    if single.exists() {
        return Ok(Opened { tensors: read_file(&single)?, absent: Vec::new() });
    }
    if !index.exists() {
        return Err(ModelError::NoWeights { dir: dir.to_owned() });
    }
    read_shards(dir, &index)
}

/// Sharded checkpoint index: the file of each tensor. Parsed twice, because a table of it would take many times its
/// memory.
struct Index<'a> {
    path: &'a Path,
    json: &'a RawValue,
}

impl<'a> Index<'a> {
    fn of(path: &'a Path, json: &'a [u8]) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Written<'a> {
            #[serde(borrow)]
            weight_map: &'a RawValue,
        }
        let written: Written<'_> = serde_json::from_slice(json).map_err(ModelError::json(path))?;
        Ok(Self { path, json: written.weight_map })
    }

    /// Visits every tensor and its shard.
    fn for_each(
        &self,
        mut visit: impl FnMut(String, String) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        for_each_member(self.json.get().as_bytes(), ModelError::json(self.path), |tensor, shard| {
            let shard = serde_json::from_str(shard.get()).map_err(ModelError::json(self.path))?;
            visit(tensor, shard)
        })
    }

    /// Shard names, each checked to exist.
    fn shards(&self, dir: &Path) -> Result<BTreeSet<String>, ModelError> {
        let mut shards = BTreeSet::new();
        self.for_each(|_, shard| {
            if shards.contains(&shard) {
                return Ok(());
            }
            // A name with a directory in it would reach outside the checkpoint.
            let is_plain = Path::new(&shard).file_name().is_some_and(|name| name == shard.as_str());
            if !is_plain || !dir.join(&shard).exists() {
                return Err(ModelError::MissingShard { index: self.path.to_owned(), shard });
            }
            shards.insert(shard);
            Ok(())
        })?;
        Ok(shards)
    }
}

/// Shard file names in a sharded checkpoint index, `model.safetensors.index.json`.
///
/// # Errors
/// When it cannot be read.
pub fn shards(index: &Path) -> Result<BTreeSet<String>, ModelError> {
    let json = read_limited(index, MAX_HEADER_BYTES).map_err(ModelError::io(index))?;
    let mut shards = BTreeSet::new();
    Index::of(index, &json)?.for_each(|_, shard| {
        shards.insert(shard);
        Ok(())
    })?;
    Ok(shards)
}

/// Whether every weight file of a directory has a key in its metadata.
pub(crate) fn all_have(dir: &Path, key: &str) -> Result<bool, ModelError> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(ModelError::io(dir))? {
        let path = entry.map_err(ModelError::io(dir))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.insert(path);
        }
    }
    for file in &files {
        if !has_key(file, key)? {
            return Ok(false);
        }
    }
    Ok(!files.is_empty())
}

fn read_shards(dir: &Path, index_path: &Path) -> Result<Opened, ModelError> {
    let json = read_limited(index_path, MAX_HEADER_BYTES).map_err(ModelError::io(index_path))?;
    let index = Index::of(index_path, &json)?;
    let mut tensors = StoredTensors::new();
    for shard in index.shards(dir)? {
        for (name, tensor) in read_file(&dir.join(shard))? {
            match tensors.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(tensor)),
                Entry::Occupied(entry) if entry.get().equals(&tensor) => {}
                Entry::Occupied(entry) => {
                    let [path, first] = [&tensor, entry.get()].map(|t| t.path().to_owned());
                    let tensor = tensor.name.to_string();
                    return Err(ModelError::TwoTensors { path, first, tensor });
                }
            }
        }
    }
    let mut absent = Vec::new();
    index.for_each(|tensor, _| {
        // Tensors in blocks have names without the end that says so.
        let is_there = tensors.contains_key(&*tensor) || tensors.contains_key(path_of(&tensor));
        if !is_there {
            absent.push(tensor.into());
        }
        Ok(())
    })?;
    Ok(Opened { tensors, absent })
}
