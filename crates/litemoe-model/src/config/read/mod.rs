//! Readers of `config.json`: every key that changes the computation is read or refused.

pub(crate) mod decoder;
pub(crate) mod eos;
pub(crate) mod file;
pub(crate) mod rope;
