#![doc = include_str!("../README.md")]

mod attention;
mod bank;
mod blocks;
mod cross_entropy;
mod dispatch;
#[cfg(feature = "flex")]
mod exp;
mod heads;
mod hidden_act;
mod linear;
mod lora;
#[cfg(feature = "flex")]
mod matrix;
mod pack;
mod parallel;
#[cfg(feature = "flex")]
mod pool;
mod primitive;
mod range_error;
mod silu_mul;
mod stored_rows;
#[cfg(all(test, feature = "flex"))]
mod test_numbers;
mod weight;

pub use attention::{
    AttentionRow, AttentionSpan, KeyValues, attention, fuses_attention, has_attention_kernel,
    self_attention,
};
pub use bank::{ExpertAdapters, ExpertBank, ExpertVisit, ExpertWork, StoredExpert};
pub use blocks::{BLOCK_VALUES, block_bytes, dequantise};
pub use cross_entropy::cross_entropy;
pub use heads::{HeadMap, Rotation, fuses_heads, map_heads};
pub use hidden_act::HiddenAct;
pub use linear::LinearWeight;
pub use lora::adapter_delta;
#[cfg(feature = "flex")]
pub use matrix::{InstructionSet, InstructionSetError};
pub use parallel::parallel_map;
pub use range_error::{ExpertRangeError, RangeError};
pub use silu_mul::silu_mul;
pub use stored_rows::StoredRows;
pub use weight::{can_pack, weight_bytes};
