//! Tests of text, tokens and rows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answer;
mod call_formats;
mod calls;
mod chat;
mod chrf;
mod constraint;
mod conversations;
mod dirs;
mod encode;
mod fuzz;
mod golden;
mod limits;
mod load;
mod prompts;
mod rows;
mod stream;
mod template;
mod text_score;
mod tokenizers;
mod vocabularies;
