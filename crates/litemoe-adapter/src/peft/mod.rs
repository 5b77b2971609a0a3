//! PEFT adapter directories: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Supported: LoRA on linear weights and experts as PEFT 0.21 writes it, and stacked experts as PEFT 0.17 wrote them
//! too. Experts are written one by one where PEFT reads them so, else as stacks. Any other option in a configuration is
//! refused by name, every tensor must be consumed, and every target of the configuration must be present.
//!
//! An adapter with a router bias has the same layout under its own `peft_type` and file name.

mod bank;
mod config;
mod found_order;
mod order;
mod padding;
mod pattern;
mod python;
mod read;
mod sha256;
mod stack;
mod stacked;
mod summary;
mod targets;
mod uniform;
mod write;

pub use config::PeftConfig;
pub use read::{PeftAdapter, read};
pub use sha256::PeftSha256;
pub use summary::{LoraSummary, PeftSummary, summary};
pub use write::{write, write_uniform};

/// File name of the configuration.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// File name of the tensors.
pub const MODEL_FILE: &str = "adapter_model.safetensors";

/// `peft_type` of a LoRA adapter that PEFT loads.
pub const LORA_TYPE: &str = "LORA";

/// `peft_type` of an adapter with a router bias. PEFT does not know the type and refuses the directory; without the
/// bias the result would be different.
pub const LITEMOE_TYPE: &str = "LITEMOE_LORA";

/// File name of the tensors of an adapter with a router bias, so that loaders that ignore `peft_type` do not find them.
pub const LITEMOE_FILE: &str = "litemoe_adapter.safetensors";

/// File name of the tensors before safetensors: a pickle.
const PICKLE_FILE: &str = "adapter_model.bin";

/// Prefix of tensor names: PEFT's wrappers of the model.
const PREFIX: &str = "base_model.model.";

/// PEFT's tensor names of A `[r, d_in]` and B `[d_out, r]` of a module.
fn tensor_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|which| format!("{PREFIX}{module}.lora_{which}.weight"))
}

/// PEFT's name of a tensor that other programs name as in memory: with the adapter's name `default`, or without
/// [`PREFIX`].
fn saved_name(name: &str) -> String {
    let mut saved = name.to_owned();
    for which in ["A", "B"] {
        if let Some(module) = name.strip_suffix(&format!(".lora_{which}.default.weight")) {
            saved = format!("{module}.lora_{which}.weight");
        }
    }
    if saved.starts_with(PREFIX) { saved } else { format!("{PREFIX}{saved}") }
}

/// Transpose of a row-major matrix.
fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}
