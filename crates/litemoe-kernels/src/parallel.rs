use burn::tensor::Device;
use rayon::prelude::*;

use crate::primitive::is_host;

/// Parallel map: on all cores where operations on `device` may be called from many threads, else in order. Small operations of
/// the CPU backend run on one core each.
pub fn parallel_map<T: Send, R: Send>(
    device: &Device,
    items: Vec<T>,
    f: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    // Burn's autodiff graph is built by one thread.
    match is_host(device) && !device.is_autodiff() {
        true => items.into_par_iter().map(f).collect(),
        false => items.into_iter().map(f).collect(),
    }
}
