use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ModelError;
use crate::checkpoint::header::read_file;
use crate::checkpoint::stored::{StoredTensor, StoredTensors};
use crate::json::for_each_member;

/// Memory-maps the weight files of a directory: `model.safetensors`, or the shards that the index names.
pub(crate) fn open(dir: &Path) -> Result<StoredTensors, ModelError> {
    let (single, index) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
    if single.exists() {
        return read_file(&single);
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
    let json = fs::read(index).map_err(ModelError::io(index))?;
    let mut shards = BTreeSet::new();
    Index::of(index, &json)?.for_each(|_, shard| {
        shards.insert(shard);
        Ok(())
    })?;
    Ok(shards)
}

fn read_shards(dir: &Path, index_path: &Path) -> Result<StoredTensors, ModelError> {
    let json = fs::read(index_path).map_err(ModelError::io(index_path))?;
    let index = Index::of(index_path, &json)?;
    let mut tensors = StoredTensors::new();
    for shard in index.shards(dir)? {
        for (name, tensor) in read_file(&dir.join(shard))? {
            if let Some(first) = tensors.insert(name, tensor) {
                return Err(not_in_index(&first));
            }
        }
    }
    let mut unlisted: BTreeSet<&str> = tensors.keys().map(|name| &**name).collect();
    let mut missing = None;
    index.for_each(|tensor, shard| {
        let path = dir.join(shard);
        if tensors.get(&*tensor).is_some_and(|found| found.path() == path) {
            unlisted.remove(&*tensor);
        } else {
            missing.get_or_insert((path, tensor));
        }
        Ok(())
    })?;
    match (unlisted.first(), missing) {
        (Some(&name), _) => Err(not_in_index(&tensors[name])),
        (None, Some((path, tensor))) => Err(ModelError::NotInShard { path, tensor }),
        (None, None) => Ok(tensors),
    }
}

fn not_in_index(tensor: &StoredTensor) -> ModelError {
    ModelError::NotInIndex { path: tensor.path().to_owned(), tensor: tensor.name.to_string() }
}
