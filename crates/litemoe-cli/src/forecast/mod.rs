//! Forecasts of memory and time, from a model's configuration and headers, the rows' lengths and a short probe of the
//! machine. Both are estimates.

mod attention_lora;
mod extraction;
mod limits;
mod machine;
mod memory;
mod model_size;
mod rows;
mod speed;
mod work;

pub(crate) use self::attention_lora::{attention_lora, attention_lora_values};
pub(crate) use self::extraction::{Extraction, Refitting, is_kept_down};
pub(crate) use self::limits::Limits;
pub(crate) use self::machine::{available_bytes, cpu_name, instruction_set};
pub(crate) use self::memory::{Memory, TuneMemory};
pub(crate) use self::model_size::ModelSize;
pub(crate) use self::rows::{Batch, Lengths};
pub(crate) use self::speed::Speed;
pub(crate) use self::work::Work;
