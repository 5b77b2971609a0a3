use std::convert::Infallible;

use litemoe_core::{Fingerprint, Plan};
use sha2::{Digest, Sha256};

use crate::checkpoint::stored::StoredTensors;
use crate::config::ModelConfig;

/// Fingerprint: SHA-256 over the configuration, a proxy's plan and each tensor with its name. Every part is
/// length-prefixed, so that no two models hash the same bytes.
pub(crate) fn of(
    config: &ModelConfig,
    plan: Option<&Plan>,
    tensors: &StoredTensors,
) -> Fingerprint {
    let mut hash = Sha256::new();
    let config = serde_json::to_vec(config);
    part(&mut hash, &config.expect("a configuration is made of numbers, names and lists"));
    if let Some(plan) = plan {
        part(&mut hash, plan.hash().as_bytes());
    }
    for (name, tensor) in tensors {
        part(&mut hash, name.as_bytes());
        part(&mut hash, tensor.dtype.name().as_bytes());
        part(&mut hash, format!("{:?}", tensor.shape).as_bytes());
        hash.update((tensor.range.len() as u64).to_le_bytes());
        let Ok(()) = tensor.read(|bytes| {
            hash.update(bytes);
            Ok::<_, Infallible>(())
        });
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Fingerprint::new(hex)
}

fn part(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
