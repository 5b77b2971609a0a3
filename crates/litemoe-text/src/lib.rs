#![doc = include_str!("../README.md")]

mod config;
mod detokenizer;
mod encode;
mod error;
mod python;
mod row;
mod template;
mod tokenizer;

pub use detokenizer::Detokenizer;
pub use encode::Encoded;
pub use error::TextError;
pub use row::{Row, read_rows};
pub use template::{ChatTemplate, Message};
pub use tokenizer::Tokenizer;
