#![doc = include_str!("../README.md")]

mod answer;
mod assistant_mask;
mod bounded;
mod chrf;
mod config;
mod conversation;
mod detokenizer;
mod encode;
mod error;
mod logprobs;
mod python;
mod row;
mod rows;
mod stop;
mod tags;
mod template;
mod text_score;
mod token_bytes;
mod tokenizer;
mod tokenizer_file;
mod turns;

pub use answer::{Answer, Finish, Piece};
pub use chrf::Chrf;
pub use conversation::Conversation;
pub use detokenizer::Detokenizer;
pub use encode::Encoded;
pub use error::TextError;
pub use logprobs::{Logprob, TokenLogprob};
pub use row::{LossTurns, Row, RowContent, UnknownLossTurns};
pub use rows::{RowError, RowFile, RowFormat, RowShape, read_rows};
pub use template::{ChatTemplate, Message};
pub use text_score::TextScore;
pub use tokenizer::Tokenizer;
