//! Model families: one file each, and the registry.

mod deepseek;
mod deepseek_v2;
mod deepseek_v3;
pub(crate) mod family;
mod gpt_oss;
mod granitemoe;
mod llama4_text;
mod mixtral;
mod olmoe;
mod phimoe;
mod qwen2_moe;
mod qwen3_moe;
pub(crate) mod registry;
mod switch_transformers;
