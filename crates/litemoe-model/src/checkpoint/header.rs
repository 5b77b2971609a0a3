//! safetensors header: its length in eight little-endian bytes, then a JSON object with the dtype, shape and byte range
//! of every tensor.
//!
//! Parsed here tensor by tensor: the tables of the `safetensors` crate take many times the header's memory.

use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use litemoe_files::MappedFile;
use litemoe_kernels::BLOCK_VALUES;
use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::checkpoint::block_dtype::BlockDtype;
use crate::checkpoint::stored::{StoredDtype, StoredTensor, StoredTensors, WeightFile};
use crate::json::for_each_member;
use crate::{ModelError, Origin};

const LEN_BYTES: usize = size_of::<u64>();

/// Maximum bytes of a header, as in the `safetensors` crate, and of a sharded checkpoint index.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Maximum dimensions of a tensor, far above any model.
const MAX_DIMS: usize = 8;

/// Key of the file's metadata, not a tensor.
const METADATA: &str = "__metadata__";

/// Memory-maps a file and parses its header. The tensors must cover all data bytes exactly once.
pub(crate) fn read_file(path: &Path) -> Result<StoredTensors, ModelError> {
    let map = MappedFile::open(path).map_err(ModelError::io(path))?;
    let header = Header::of(path, map.as_bytes())?;
    let file = WeightFile { path: path.to_owned(), origin: header.origin()?, map: map.clone() };
    header.tensors(&Arc::new(file))
}

/// Whether the metadata of a file has a key.
pub(crate) fn has_key(path: &Path, key: &str) -> Result<bool, ModelError> {
    let map = MappedFile::open(path).map_err(ModelError::io(path))?;
    let header = Header::of(path, map.as_bytes())?;
    let mut found = false;
    header.for_each(|name, value| {
        if name == METADATA {
            let visit = |name, _: &RawValue| {
                found |= name == key;
                Ok(())
            };
            let broken = |error| broken(path, error);
            return for_each_member(value.get().as_bytes(), broken, visit);
        }
        Ok(())
    })?;
    Ok(found)
}

struct Header<'a> {
    path: &'a Path,
    json: &'a [u8],
    /// Byte range of the tensor data in the file.
    data: Range<usize>,
}

impl<'a> Header<'a> {
    fn of(path: &'a Path, file: &'a [u8]) -> Result<Self, ModelError> {
        let json = file.split_first_chunk::<LEN_BYTES>().and_then(|(len, rest)| {
            let len = u64::from_le_bytes(*len);
            rest.get(..usize::try_from(len.min(MAX_HEADER_BYTES + 1)).ok()?)
        });
        match json {
            Some(json) if json.len() as u64 <= MAX_HEADER_BYTES => {
                Ok(Self { path, json, data: LEN_BYTES + json.len()..file.len() })
            }
            _ => Err(broken(path, "its header is cut off or too long")),
        }
    }

    /// Visits every tensor's entry, and the metadata under the name [`METADATA`].
    fn for_each(
        &self,
        visit: impl FnMut(String, &'a RawValue) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        for_each_member(self.json, |error| broken(self.path, error), visit)
    }

    fn origin(&self) -> Result<Option<Origin>, ModelError> {
        let mut origin = None;
        self.for_each(|name, value| {
            if name == METADATA {
                origin = Origin::of(value).map_err(|error| broken(self.path, error))?;
            }
            Ok(())
        })?;
        Ok(origin)
    }

    fn tensors(&self, file: &Arc<WeightFile>) -> Result<StoredTensors, ModelError> {
        let mut tensors = StoredTensors::new();
        self.for_each(|name, value| {
            if name == METADATA {
                return Ok(());
            }
            let tensor = self.tensor(file, &name.into(), value)?;
            match tensors.entry(tensor.name.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(tensor)),
                Entry::Occupied(entry) => {
                    let reason = format!("the tensor {} is there twice", entry.key());
                    return Err(broken(self.path, reason));
                }
            }
            Ok(())
        })?;
        self.check_filled(&tensors)?;
        Ok(tensors)
    }

    fn tensor(
        &self,
        file: &Arc<WeightFile>,
        name: &Arc<str>,
        value: &RawValue,
    ) -> Result<StoredTensor, ModelError> {
        let info: TensorInfo = serde_json::from_str(value.get())
            .map_err(|error| broken(self.path, format!("the tensor {name}: {error}")))?;
        let range = self.range(&info).ok_or_else(|| {
            let (Shape(shape), (start, end)) = (&info.shape, info.data_offsets);
            broken(
                self.path,
                format!(
                    "the tensor {name} of shape {shape:?} does not lie in bytes {start}..{end}"
                ),
            )
        })?;
        let (file, Shape(mut shape)) = (file.clone(), info.shape);
        let (mut dtype, mut name) = (StoredDtype::from(info.dtype), name.clone());
        if let Some((blocks, path)) = blocks_of(dtype, &name, &shape) {
            (dtype, name) = (StoredDtype::Blocks(blocks), path.into());
            shape.pop();
            *shape.last_mut().expect("blocks of a row") *= BLOCK_VALUES;
        }
        Ok(StoredTensor { file, name, dtype, shape, range })
    }

    /// Byte range of a tensor in the file; `None` if it does not match the tensor's size.
    fn range(&self, info: &TensorInfo) -> Option<Range<usize>> {
        let (start, end) = info.data_offsets;
        let bits = info.shape.0.iter().try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d))?;
        let bytes = bits.is_multiple_of(8).then_some(bits / 8)?;
        let range = self.data.start.checked_add(start)?..self.data.start.checked_add(end)?;
        (start.checked_add(bytes) == Some(end)).then_some(range)
    }

    /// Checks that the tensors leave no gap before, between or after them.
    fn check_filled(&self, tensors: &StoredTensors) -> Result<(), ModelError> {
        let mut ranges: Vec<Range<usize>> =
            tensors.values().map(|tensor| tensor.range.clone()).collect();
        // Empty tensors before others with the same start.
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        let mut end = self.data.start;
        for range in ranges {
            if range.start != end {
                return Err(broken(self.path, format!("its tensors do not meet at byte {end}")));
            }
            end = range.end;
        }
        if end != self.data.end {
            let len = self.data.end;
            return Err(broken(self.path, format!("its tensors end at byte {end} of {len}")));
        }
        Ok(())
    }
}

/// A tensor's name without the end that says that its bytes are blocks.
pub(crate) fn path_of(name: &str) -> &str {
    in_blocks(name).map_or(name, |(_, path)| path)
}

/// Format and path that a name says.
fn in_blocks(name: &str) -> Option<(BlockDtype, &str)> {
    BlockDtype::ALL.into_iter().find_map(|blocks| {
        let path = name.strip_suffix(blocks.suffix())?;
        Some((blocks, path))
    })
}

/// Format and path of a tensor whose bytes are [blocks](litemoe_kernels::block_bytes), `[…, rows, blocks, bytes]`.
fn blocks_of<'a>(
    dtype: StoredDtype,
    name: &'a str,
    shape: &[usize],
) -> Option<(BlockDtype, &'a str)> {
    in_blocks(name).filter(|(blocks, _)| {
        let [_, .., _, bytes] = *shape else { return false };
        let is_filled = shape.iter().all(|&size| size > 0);
        dtype == StoredDtype::U8 && shape.len() > 2 && is_filled && bytes == blocks.block_bytes()
    })
}

fn broken(path: &Path, reason: impl fmt::Display) -> ModelError {
    ModelError::Safetensors { path: path.to_owned(), reason: reason.to_string() }
}

/// Header entry of a tensor.
#[derive(serde::Deserialize)]
struct TensorInfo {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// Dimensions of a tensor; parsing stops at [`MAX_DIMS`].
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_DIMS} dimensions")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Shape, S::Error> {
        let (mut dims, mut n_dims) = ([0; MAX_DIMS], 0);
        while let Some(dim) = seq.next_element()? {
            *dims.get_mut(n_dims).ok_or_else(|| S::Error::invalid_length(n_dims + 1, &self))? = dim;
            n_dims += 1;
        }
        Ok(Shape(dims[..n_dims].to_vec()))
    }
}
