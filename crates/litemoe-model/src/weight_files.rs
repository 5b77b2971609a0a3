use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use litemoe_kernels::MappedFile;
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::stored::{StoredDtype, StoredTensor, WeightFile};
use crate::{ModelError, Origin};

/// The tensors of a checkpoint by name.
pub(crate) type StoredTensors = BTreeMap<Arc<str>, StoredTensor>;

/// Maps the weight files of a directory: `model.safetensors`, or what the index names.
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

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = fs::read(path).map_err(ModelError::io(path))?;
        serde_json::from_slice(&bytes)
            .map_err(|source| ModelError::Json { path: path.to_owned(), source })
    }
}

/// The names of the weight files that a `model.safetensors.index.json` is about.
///
/// # Errors
/// When it cannot be read.
pub fn shards(index: &Path) -> Result<BTreeSet<String>, ModelError> {
    Ok(Index::read(index)?.weight_map.into_values().collect())
}

fn read_shards(dir: &Path, index_path: &Path) -> Result<StoredTensors, ModelError> {
    let index = Index::read(index_path)?;
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut tensors = StoredTensors::new();
    for shard in shards {
        let path = dir.join(shard);
        // A name with a folder in it would reach outside the checkpoint.
        let is_plain = Path::new(shard).file_name().is_some_and(|name| name == shard.as_str());
        if !is_plain || !path.exists() {
            return Err(ModelError::MissingShard {
                index: index_path.to_owned(),
                shard: shard.clone(),
            });
        }
        for (name, tensor) in read_file(&path)? {
            if index.weight_map.get(&*name) != Some(shard) {
                return Err(ModelError::NotInIndex { path, tensor: name.to_string() });
            }
            tensors.insert(name, tensor);
        }
    }
    match index.weight_map.iter().find(|(name, _)| !tensors.contains_key(name.as_str())) {
        Some((name, shard)) => {
            Err(ModelError::NotInShard { path: dir.join(shard), tensor: name.clone() })
        }
        None => Ok(tensors),
    }
}

fn read_file(path: &Path) -> Result<StoredTensors, ModelError> {
    let map = MappedFile::open(path).map_err(ModelError::io(path))?;
    let (header, metadata) = SafeTensors::read_metadata(map.as_bytes()).map_err(|error| {
        ModelError::Safetensors { path: path.to_owned(), reason: error.to_string() }
    })?;
    let origin = metadata.metadata().as_ref().and_then(Origin::of);
    let file = Arc::new(WeightFile { path: path.to_owned(), map, origin });
    let data = header + size_of::<u64>();
    let stored = metadata.tensors().into_iter().map(|(name, info)| {
        let dtype = StoredDtype::from_safetensors(info.dtype).ok_or_else(|| ModelError::Dtype {
            path: path.to_owned(),
            tensor: name.clone(),
            found: format!("{:?}", info.dtype),
        })?;
        let (start, end) = info.data_offsets;
        let name: Arc<str> = name.into();
        let (file, shape, range) = (file.clone(), info.shape.clone(), data + start..data + end);
        Ok((name.clone(), StoredTensor { file, name, dtype, shape, range }))
    });
    stored.collect()
}
