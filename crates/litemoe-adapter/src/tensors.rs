use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use litemoe_files::read_limited;
use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};

use crate::AdapterError;

/// Maximum bytes of an adapter's file, which is in memory with its tensors.
pub(crate) const MAX_ADAPTER_BYTES: u64 = 16 << 30;

/// Maximum bytes of a header, safetensors' own: some 300 000 weights of an adapter, which has two matrices of each, or
/// 100 000 of a checkpoint of tuning, which has eight.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A safetensors file of f32 matrices with one metadata entry.
pub(crate) struct MatrixFile {
    bytes: BTreeMap<String, (Vec<u8>, [usize; 2])>,
}

impl MatrixFile {
    pub(crate) fn new() -> Self {
        Self { bytes: BTreeMap::new() }
    }

    /// Adds a row-major matrix.
    pub(crate) fn insert(&mut self, name: String, values: &[f32], shape: [usize; 2]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes.insert(name, (bytes, shape));
    }

    /// Bytes of the matrices.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.bytes.values().map(|(bytes, _)| bytes.len() as u64).sum()
    }

    /// SHA-256 of the matrices, see [`sha256`].
    pub(crate) fn sha256(&self) -> String {
        let matrices = self.bytes.iter();
        sha256(matrices.map(|(name, (bytes, shape))| (&**name, Dtype::F32, &shape[..], &bytes[..])))
    }

    /// The file's bytes, deterministic because there is only one metadata entry to order.
    pub(crate) fn encode(&self, key: &str, value: String) -> Result<Vec<u8>, SafeTensorError> {
        let mut views = Vec::with_capacity(self.bytes.len());
        for (name, (bytes, shape)) in &self.bytes {
            views.push((name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?));
        }
        safetensors::serialize(views, Some(HashMap::from([(key.to_owned(), value)])))
    }
}

/// Bytes of the header of a file of f32 matrices with one metadata entry, without padding.
pub(crate) fn header_len(
    matrices: &BTreeMap<String, [usize; 2]>,
    key: &str,
    value: String,
) -> Result<u64, SafeTensorError> {
    let mut end = 0;
    let info = |(name, shape): (&String, &[usize; 2])| {
        let start = end;
        end += shape[0] * shape[1] * size_of::<f32>();
        let (shape, data_offsets) = (shape.to_vec(), (start, end));
        (name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets })
    };
    let infos = matrices.iter().map(info).collect();
    let header = Metadata::new(Some(HashMap::from([(key.to_owned(), value)])), infos)?;
    Ok(serde_json::to_vec(&header)?.len() as u64)
}

/// Reads only the metadata of a safetensors file.
///
/// # Errors
/// Also a length that is not the header's.
pub(crate) fn read_metadata(path: &Path) -> Result<HashMap<String, String>, AdapterError> {
    let io = AdapterError::io;
    let broken = |source| AdapterError::Safetensors { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io(path))?;
    let len = file.metadata().map_err(io(path))?.len();
    let mut read = |n: u64| -> Result<Vec<u8>, AdapterError> {
        let mut bytes = Vec::new();
        file.by_ref().take(n).read_to_end(&mut bytes).map_err(io(path))?;
        Ok(bytes)
    };
    let start: [u8; 8] =
        read(8)?.try_into().map_err(|_| broken(SafeTensorError::HeaderTooSmall))?;
    let n = u64::from_le_bytes(start);
    if n > MAX_HEADER_BYTES {
        return Err(broken(SafeTensorError::HeaderTooLarge));
    }
    let header: Metadata = serde_json::from_slice(&read(n)?)
        .map_err(|error| broken(SafeTensorError::InvalidHeaderDeserialization(error)))?;
    if (header.data_len() as u64).checked_add(8 + n) != Some(len) {
        return Err(broken(SafeTensorError::MetadataIncompleteBuffer));
    }
    Ok(header.metadata().clone().unwrap_or_default())
}

/// A safetensors file in memory whose matrices are removed as they are read.
pub(crate) struct Matrices {
    path: PathBuf,
    /// Tensors by the names they are read by, with those in the file.
    tensors: BTreeMap<String, (String, TensorData)>,
    metadata: HashMap<String, String>,
    sha256: String,
}

impl Matrices {
    /// Reads a file of any length.
    pub(crate) fn read(path: &Path) -> Result<Self, AdapterError> {
        let len = fs::metadata(path).map_err(AdapterError::io(path))?.len();
        Self::read_limited(path, len, str::to_owned)
    }

    /// Reads a file of at most [`MAX_ADAPTER_BYTES`] and renames its tensors.
    ///
    /// # Errors
    /// Also two tensors of the same new name.
    pub(crate) fn read_as(
        path: &Path,
        rename: impl Fn(&str) -> String,
    ) -> Result<Self, AdapterError> {
        Self::read_limited(path, MAX_ADAPTER_BYTES, rename)
    }

    fn read_limited(
        path: &Path,
        max_bytes: u64,
        rename: impl Fn(&str) -> String,
    ) -> Result<Self, AdapterError> {
        let broken = |source| AdapterError::Safetensors { path: path.to_owned(), source };
        let bytes = read_limited(path, max_bytes).map_err(AdapterError::io(path))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
        let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
        let mut views: Vec<_> = file.iter().collect();
        views.sort_unstable_by_key(|&(name, _)| name);
        let parts = views.iter();
        let sha256 =
            sha256(parts.map(|(name, view)| (*name, view.dtype(), view.shape(), view.data())));
        let mut tensors = BTreeMap::new();
        for (name, view) in views {
            let found = (name.to_owned(), data(path, name, &view)?);
            if let Some((other, _)) = tensors.insert(rename(name), found) {
                let (path, tensors) = (path.to_owned(), [other, name.to_owned()]);
                return Err(AdapterError::TwoNames { path, tensors });
            }
        }
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_owned(), tensors, metadata, sha256 })
    }

    /// SHA-256 of all matrices of the file under their names there, see [`sha256`].
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Name of a tensor in the file.
    pub(crate) fn name_in_file<'a>(&'a self, name: &'a str) -> &'a str {
        self.tensors.get(name).map_or(name, |(name, _)| name.as_str())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, if present.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|(_, data)| data.shape().as_slice())
    }

    /// Removes a matrix and returns its values in row-major order; they must be finite.
    pub(crate) fn take(
        &mut self,
        name: &str,
        expected: [usize; 2],
    ) -> Result<Vec<f32>, AdapterError> {
        let Some((tensor, data)) = self.tensors.remove(name) else {
            let (path, tensor) = (self.path.clone(), name.to_owned());
            return Err(AdapterError::MissingTensor { path, tensor });
        };
        if data.shape().as_slice() != expected {
            let found = data.shape().to_vec();
            return Err(AdapterError::Shape { path: self.path.clone(), tensor, found, expected });
        }
        let values: Vec<f32> = data.convert::<f32>().try_into_vec().expect("just converted to f32");
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        Err(AdapterError::NotFinite { path: self.path.clone(), tensor })
    }

    /// Checks that no tensor remains unread.
    pub(crate) fn finish(self) -> Result<(), AdapterError> {
        if self.tensors.is_empty() {
            return Ok(());
        }
        Err(unknown(&self.path, self.names().map(|name| self.name_in_file(name))))
    }
}

/// SHA-256, in hex, of tensors in order of their names: name, dtype, shape and bytes of each. Every part is
/// length-prefixed, so that no two files hash the same bytes.
fn sha256<'a>(tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (name, dtype, shape, bytes) in tensors {
        let (dtype, shape) = (format!("{dtype:?}"), format!("{shape:?}"));
        for part in [name.as_bytes(), dtype.as_bytes(), shape.as_bytes(), bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The error for unknown tensors, naming the first few.
pub(crate) fn unknown<'a>(path: &Path, names: impl Iterator<Item = &'a str>) -> AdapterError {
    let names: Vec<&str> = names.collect();
    let first = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    AdapterError::UnknownTensors { path: path.to_owned(), count: names.len(), first }
}

fn data(path: &Path, name: &str, view: &TensorView<'_>) -> Result<TensorData, AdapterError> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::BF16 => DType::BF16,
        Dtype::F16 => DType::F16,
        other => {
            let (tensor, found) = (name.to_owned(), format!("{other:?}"));
            return Err(AdapterError::Dtype { path: path.to_owned(), tensor, found });
        }
    };
    Ok(TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_header_is_known_before_it_is_written() {
        let names = ["a", "layers.0.\u{e9}\"", "layers.1"].map(str::to_owned);
        let shapes = [[3, 40], [1, 1], [700, 2]];
        let mut file = MatrixFile::new();
        for (name, shape) in names.iter().zip(shapes) {
            file.insert(name.clone(), &vec![0.0; shape[0] * shape[1]], shape);
        }
        let value = "{\"step\": 3}".to_owned();
        let bytes = file.encode("key", value.clone()).expect("it is written");
        let matrices = names.into_iter().zip(shapes).collect();
        let len = header_len(&matrices, "key", value).expect("a header");
        let written = bytes.first_chunk().map(|len| u64::from_le_bytes(*len));
        assert_eq!(written, Some(len.next_multiple_of(8)));
    }
}
