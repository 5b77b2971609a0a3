#![doc = include_str!("../README.md")]

mod answer;
mod bounded;
mod chrf;
mod code;
mod config;
mod detokenizer;
mod encode;
mod error;
mod literal;
mod logprobs;
mod one_shot;
mod prefix;
mod python;
mod row;
mod special_tokens;
mod stop;
mod tags;
mod template;
mod text_score;
mod token_bytes;
mod tokenizer;
mod tokenizer_class;
mod tokenizer_file;

pub use answer::{Answer, Finish, Piece};
pub use chrf::Chrf;
pub use detokenizer::Detokenizer;
pub use encode::Encoded;
pub use error::TextError;
pub use logprobs::{Logprob, TokenLogprob};
pub use row::{Row, read_rows};
pub use template::{ChatTemplate, Message};
pub use text_score::TextScore;
pub use tokenizer::Tokenizer;
