//! Readers of `config.json`: keys that change the mathematics are read or refused.

pub(crate) mod decoder;
pub(crate) mod eos;
pub(crate) mod file;
pub(crate) mod rope;
