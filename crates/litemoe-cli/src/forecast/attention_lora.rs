use litemoe_adapter::{ATTENTION, LoraOptions, target_sites};
use litemoe_model::Checkpoint;

/// LoRAs of rank 8 on every matrix of attention: the adapter of a tuning step that is forecast or measured.
pub(crate) fn attention_lora() -> LoraOptions {
    LoraOptions { targets: vec![ATTENTION.to_owned()], ..LoraOptions::default() }
}

/// Values of [`attention_lora`] on a model.
pub(crate) fn attention_lora_values(checkpoint: &Checkpoint) -> anyhow::Result<f64> {
    let (lora, sites) = (attention_lora(), checkpoint.linear_sites());
    let sites = target_sites(&sites, &lora)?;
    let values = sites.iter().map(|site| lora.rank_at(site) * (site.d_in + site.d_out));
    Ok(values.sum::<usize>() as f64)
}
