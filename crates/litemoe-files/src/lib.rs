#![doc = include_str!("../README.md")]

mod heap;
mod mapped;
mod staged;

pub use heap::{map_large_allocations, share_heap};
pub use mapped::MappedFile;
pub use staged::{StagedDir, StagedFile, check_target, holds_only, write_file, write_file_limited};
