use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use litemoe_core::{LayerId, MoeLayer};
use serde_json::{Value, json};

use super::tensor::{Dequantised, FusedTensor};
use super::update::Update;
use crate::checkpoint::expert_part::Part;
use crate::checkpoint::stored::{StoredTensor, StoredTensors};
use crate::checkpoint::tensors::is_quantised;
use crate::checkpoint::weight_files;
use crate::{Checkpoint, ModelError, SIDE_FILES};

/// Index of a sharded checkpoint.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// Weight file of a fused model.
pub(super) struct FusedFile {
    pub(super) name: String,
    /// Tensors in file order.
    pub(super) tensors: Vec<(String, FusedTensor)>,
}

impl FusedFile {
    pub(super) fn is_dequantised(&self) -> bool {
        self.tensors.iter().any(|(_, tensor)| matches!(tensor, FusedTensor::Dequantised { .. }))
    }
}

/// Weight files of a fused model: those of the checkpoint, its leftovers included, with the updates.
pub(super) fn fused_files(
    checkpoint: &Checkpoint,
    updates: &mut BTreeMap<String, Vec<Update>>,
) -> Result<Vec<FusedFile>, ModelError> {
    let mut stored = weight_files::open(&checkpoint.dir)?.tensors;
    let mut files: BTreeMap<String, Vec<(String, FusedTensor)>> = BTreeMap::new();
    let layers = checkpoint.moe_layers();
    if layers.iter().any(|layer| is_updated_mxfp4(checkpoint, layer.id, updates)) {
        for layer in layers {
            for (of, name, tensor) in dequantised(checkpoint, layer, updates, &mut stored) {
                files.entry(file_name(&of)).or_default().push((name, tensor));
            }
        }
    }
    for (name, tensor) in stored {
        let file = files.entry(file_name(&tensor)).or_default();
        let fused = match updates.remove(&*name) {
            Some(updates) => FusedTensor::Updated(tensor, updates),
            None => FusedTensor::Copied(tensor),
        };
        file.push((name.to_string(), fused));
    }
    Ok(files
        .into_iter()
        .map(|(name, tensors)| FusedFile { name, tensors: in_order(tensors) })
        .collect())
}

/// Wide number formats first, so that every tensor is aligned.
fn in_order(mut tensors: Vec<(String, FusedTensor)>) -> Vec<(String, FusedTensor)> {
    tensors.sort_by(|(x, left), (y, right)| {
        (Reverse(left.dtype().size()), x).cmp(&(Reverse(right.dtype().size()), y))
    });
    tensors
}

fn file_name(tensor: &StoredTensor) -> String {
    let name = tensor.path().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether updates are on experts of a layer that are stored in MXFP4.
fn is_updated_mxfp4(
    checkpoint: &Checkpoint,
    layer: LayerId,
    updates: &BTreeMap<String, Vec<Update>>,
) -> bool {
    let names = checkpoint.names;
    let is_updated = |stack: &&str| updates.contains_key(&names.path(layer, stack));
    is_quantised(&checkpoint.tensors, layer, names) && names.stacks.iter().any(is_updated)
}

/// Takes the MXFP4 tensors of a layer out of `stored`, and returns those in their place, each with a tensor of the file
/// it belongs to.
fn dequantised(
    checkpoint: &Checkpoint,
    layer: &MoeLayer,
    updates: &mut BTreeMap<String, Vec<Update>>,
    stored: &mut StoredTensors,
) -> Vec<(StoredTensor, String, FusedTensor)> {
    let (names, MoeLayer { id, n_experts, d_model, d_expert, .. }) = (checkpoint.names, *layer);
    let parts = [
        (Part::GateUp { interleaved: true }, [n_experts, d_model, 2 * d_expert]),
        (Part::DownColumns, [n_experts, d_expert, d_model]),
    ];
    let mut tensors = Vec::new();
    for (stack, (part, shape)) in names.stacks.iter().zip(parts) {
        let name = names.path(id, stack);
        stored.remove(&*format!("{name}_scales"));
        let Some(blocks) = stored.remove(&*format!("{name}_blocks")) else { continue };
        let (dtype, path) = (checkpoint.expert_dtype(id), blocks.path().to_owned());
        let experts = Dequantised { layer: id, part, dtype, shape, path };
        let updates = updates.remove(&name).unwrap_or_default();
        tensors.push((blocks, name, FusedTensor::Dequantised { experts, updates }));
    }
    tensors
}

/// Index of several weight files, or of one that is not `model.safetensors`.
pub(super) fn index(files: &[FusedFile]) -> Option<Value> {
    if matches!(files, [file] if file.name == "model.safetensors") {
        return None;
    }
    let tensors = || files.iter().flat_map(|file| &file.tensors);
    let total: usize = tensors().map(|(_, tensor)| tensor.bytes()).sum();
    let place = |file: &FusedFile| {
        let name: Arc<str> = file.name.as_str().into();
        file.tensors.iter().map(|(tensor, _)| (tensor.clone(), name.clone())).collect::<Vec<_>>()
    };
    let map: BTreeMap<String, Arc<str>> = files.iter().flat_map(place).collect();
    Some(json!({ "metadata": { "total_size": total }, "weight_map": map }))
}

/// Whether a directory holds only files that a written model has.
pub(crate) fn holds_only_model(dir: &Path) -> bool {
    let is_known = |name: &str| {
        name == "config.json"
            || name == INDEX_FILE
            || name.ends_with(".safetensors")
            || SIDE_FILES.contains(&name)
    };
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_file())
                && entry.file_name().to_str().is_some_and(is_known)
        })
    };
    fs::read_dir(dir).is_ok_and(|mut entries| entries.all(entry))
}
