#![doc = include_str!("../README.md")]

mod mapped;
mod staged;

pub use mapped::MappedFile;
pub use staged::{StagedDir, StagedFile, check_target, holds_only, write_file, write_file_limited};
