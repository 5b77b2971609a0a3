//! PEFT's adapter directories: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What is read is LoRA on linear weights and experts, as PEFT 0.21 writes it, and experts in stacks as PEFT 0.17 wrote them
//! too. Experts are written one by one where PEFT reads them so, else in stacks. Whatever else a configuration asks for is refused by name, every tensor must be
//! consumed, and every target the configuration claims must be there.
//!
//! An adapter with a router bias is written in the same layout under a `peft_type` and a file name of our own.

mod bank;
mod config;
mod found_order;
mod order;
mod padding;
mod pattern;
mod read;
mod stack;
mod stacked;
mod write;

pub use config::PeftConfig;
pub use read::{PeftAdapter, read};
pub use write::write;

/// The configuration's file name.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The tensors' file name.
pub const MODEL_FILE: &str = "adapter_model.safetensors";

/// `peft_type` of a LoRA that PEFT loads.
pub const LORA_TYPE: &str = "LORA";

/// `peft_type` of an adapter with a router bias. PEFT does not know it and refuses the directory; without the bias it would
/// compute something else.
pub const LITEMOE_TYPE: &str = "LITEMOE_LORA";

/// The tensors' file name in such a directory, for loaders that do not look at `peft_type`.
pub const LITEMOE_FILE: &str = "litemoe_adapter.safetensors";

/// The tensors' file name before safetensors: a pickle.
const PICKLE_FILE: &str = "adapter_model.bin";

/// Which of the two matrices a tensor is, as PEFT names and stores them: A `[r, d_in]`, B `[d_out, r]`.
fn tensor_names(site: &str) -> [String; 2] {
    ["A", "B"].map(|which| format!("base_model.model.{site}.lora_{which}.weight"))
}

/// The transpose of a matrix given row by row.
fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}
