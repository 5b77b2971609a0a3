use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Value, json};

use crate::checkpoint::stored::StoredDtype;

/// Tensor in a safetensors header.
pub(crate) struct HeaderEntry {
    pub(crate) name: String,
    pub(crate) dtype: StoredDtype,
    pub(crate) shape: Vec<usize>,
    /// Size in the file.
    pub(crate) bytes: usize,
}

/// safetensors header of tensors in file order, with its length, padded so that the tensors are aligned. `metadata` is
/// an object of strings.
pub(crate) fn of(tensors: impl Iterator<Item = HeaderEntry>, metadata: Value) -> Vec<u8> {
    let mut end = 0;
    let infos = tensors.map(|HeaderEntry { name, dtype, shape, bytes }| {
        let start = end;
        end += bytes;
        (name, TensorInfo { dtype: dtype.into(), shape, data_offsets: (start, end) })
    });
    let tensors = Metadata::new(None, infos.collect());
    let tensors = tensors.expect("offsets are contiguous and follow from the shapes");
    let mut header = serde_json::to_value(&tensors).expect("a header is names and numbers");
    // The transformers loaders refuse a file without it.
    header["__metadata__"] = json!({ "format": "pt" });
    if let (Value::Object(to), Value::Object(more)) = (&mut header["__metadata__"], metadata) {
        to.extend(more);
    }
    let mut json = header.to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes(), &*json].concat()
}
