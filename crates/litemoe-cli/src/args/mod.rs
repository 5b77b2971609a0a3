//! Arguments shared by several commands.

pub(crate) mod auto;
pub(crate) mod cache;
pub(crate) mod device;
pub(crate) mod forecast;
pub(crate) mod jobs;
pub(crate) mod limit;
pub(crate) mod listed;
pub(crate) mod mount;
pub(crate) mod plan;
pub(crate) mod prompt;
pub(crate) mod refit;
pub(crate) mod refit_kind;
pub(crate) mod registry;
pub(crate) mod rows;
pub(crate) mod sampling;
pub(crate) mod server;
pub(crate) mod train_size;
pub(crate) mod tune;
pub(crate) mod weights;
