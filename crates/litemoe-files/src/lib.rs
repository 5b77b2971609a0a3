#![doc = include_str!("../README.md")]

mod heap;
mod limited;
mod lock;
mod mapped;
mod replace;
mod room;
mod sibling;
mod staged_dir;
mod staged_file;
mod sweep;
mod target;
mod unnamed_file;

pub use heap::{keep_freed_memory, map_large_allocations, share_heaps};
pub use limited::{JsonLimits, n_json_values, read_json_limited, read_limited};
pub use lock::TargetLock;
pub use mapped::MappedFile;
pub use replace::sync_dir;
pub use staged_dir::{StagedDir, StagedFile};
pub use staged_file::{write_file, write_file_limited};
pub use sweep::remove_staged;
pub use target::{check_target, check_target_file, holds_only};
pub use unnamed_file::{SyncedFile, UnnamedFile, dead_unnamed, is_unnamed, remove_unnamed};
