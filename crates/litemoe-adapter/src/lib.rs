//! LoRA adapters beside frozen weights: train on a proxy, mount on the foundation, PEFT in and out
