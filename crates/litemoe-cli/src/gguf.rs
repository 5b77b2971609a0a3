//! GGUF files, version 3, little-endian: header, metadata, tensor infos, and tensors of f32 on multiples of 32 bytes.

use std::io::{self, Write};

const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;

/// `general.alignment` where a file does not say otherwise.
const ALIGNMENT: u64 = 32;

/// Type codes of metadata values and of tensors.
const TYPE_F32_VALUE: u32 = 6;
const TYPE_STRING: u32 = 8;
const TYPE_F32_TENSOR: u32 = 0;

/// Metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GgufValue {
    F32(f32),
    Text(String),
}

/// Tensor of f32 values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GgufTensor {
    pub(crate) name: String,
    /// Shape, outermost dimension first; GGUF stores it in reverse.
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Writes a file of metadata and tensors, in the given order.
pub(crate) fn write(
    out: &mut dyn Write,
    metadata: &[(&str, GgufValue)],
    tensors: &[GgufTensor],
) -> io::Result<()> {
    let mut head = Vec::new();
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        push_text(&mut head, key);
        match value {
            GgufValue::F32(number) => {
                head.extend(TYPE_F32_VALUE.to_le_bytes());
                head.extend(number.to_le_bytes());
            }
            GgufValue::Text(text) => {
                head.extend(TYPE_STRING.to_le_bytes());
                push_text(&mut head, text);
            }
        }
    }
    let mut offset = 0;
    for tensor in tensors {
        push_text(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&size| head.extend((size as u64).to_le_bytes()));
        head.extend(TYPE_F32_TENSOR.to_le_bytes());
        head.extend(u64::to_le_bytes(offset));
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.write_all(&head)?;
    pad(out, head.len() as u64)?;
    for tensor in tensors {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.write_all(&bytes)?;
        pad(out, tensor.bytes())?;
    }
    Ok(())
}

impl GgufTensor {
    fn bytes(&self) -> u64 {
        size_of_val(&self.values[..]) as u64
    }
}

fn push_text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

fn pad(out: &mut dyn Write, bytes: u64) -> io::Result<()> {
    let zeros = [0; ALIGNMENT as usize];
    out.write_all(&zeros[..(bytes.next_multiple_of(ALIGNMENT) - bytes) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_byte_by_byte() {
        let metadata = [("k", GgufValue::Text("v".to_owned())), ("a", GgufValue::F32(2.0))];
        let tensor = |name: &str, shape: [usize; 2], values: &[f32]| GgufTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let tensors = [tensor("x", [1, 3], &[1.0, 2.0, 3.0]), tensor("y", [1, 1], &[4.0])];
        let mut file = Vec::new();
        write(&mut file, &metadata, &tensors).expect("written to memory");
        let u64s = |values: &[u64]| {
            values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()
        };
        let u32s = |values: &[u32]| {
            values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()
        };
        let mut expected = [&b"GGUF"[..], &u32s(&[3]), &u64s(&[2, 2])].concat();
        expected.extend([&u64s(&[1])[..], b"k", &u32s(&[8]), &u64s(&[1]), b"v"].concat());
        expected.extend([&u64s(&[1])[..], b"a", &u32s(&[6]), &2f32.to_le_bytes()].concat());
        expected.extend(
            [&u64s(&[1])[..], b"x", &u32s(&[2]), &u64s(&[3, 1]), &u32s(&[0]), &u64s(&[0])].concat(),
        );
        expected.extend(
            [&u64s(&[1])[..], b"y", &u32s(&[2]), &u64s(&[1, 1]), &u32s(&[0]), &u64s(&[32])]
                .concat(),
        );
        expected.resize(expected.len().next_multiple_of(32), 0);
        expected.extend([1f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()));
        expected.resize(expected.len().next_multiple_of(32), 0);
        expected.extend(4f32.to_le_bytes());
        expected.resize(expected.len().next_multiple_of(32), 0);
        assert_eq!(file, expected);
    }
}
