#![doc = include_str!("../README.md")]

mod bank;
mod dispatch;
mod hidden_act;
mod linear;
mod mapped;
mod pack;
mod primitive;
mod silu_mul;
mod staged;

pub use bank::{
    ExpertBank, ExpertBiases, ExpertUpdate, ExpertVisit, ExpertWork, LowRank, StoredExpert,
};
pub use hidden_act::HiddenAct;
pub use linear::LinearWeight;
pub use mapped::MappedFile;
pub use silu_mul::silu_mul;
pub use staged::{StagedDir, StagedFile, check_target, holds_only, write_file, write_file_limited};
