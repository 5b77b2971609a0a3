use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use litemoe_core::WeightDtype;
use litemoe_kernels::LinearWeight;
use rayon::prelude::*;
use serde::Serialize;

use super::machine::available_bytes;

/// Bytes that a thread reads at once: 1 MiB.
const READ: usize = 1 << 20;

/// Runs of each measurement, of which the best counts.
const RUNS: usize = 5;
/// Least time of the product's runs.
const PRODUCTS: Duration = Duration::from_millis(300);

/// Sizes of the buffer that is read.
const LEAST_BUFFER: u64 = 256 << 20;
const LARGEST_BUFFER: u64 = 2 << 30;

/// Rows, inputs and outputs of the product: those of a prefill chunk and of a large layer.
const PRODUCT: [usize; 3] = [512, 2048, 2048];

/// Speeds of this machine with all threads, as measured, that limit large models: of reading what is in no cache, and of
/// one large product. A pass whose weights fit the caches, or whose products are faster, is above them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Memory bandwidth of reading.
    pub(crate) bytes_per_second: f64,
    /// Floating-point operations of a large product with a weight in the model's format, two per multiplication.
    pub(crate) flops_per_second: f64,
}

impl Limits {
    /// Measures both; takes a few seconds, and up to 2 GiB of memory.
    pub(crate) fn measure(dtype: WeightDtype, device: &Device) -> Self {
        Self { bytes_per_second: read(), flops_per_second: product(dtype, device) }
    }
}

/// Bandwidth of reading a buffer much larger than the caches.
fn read() -> f64 {
    let buffer = vec![1_u64; buffer_bytes() as usize / size_of::<u64>()];
    let run = || {
        let start = Instant::now();
        let sums = buffer.par_chunks(READ / size_of::<u64>()).map(|part| {
            // The additions of a fold without overflow checks become vector instructions.
            part.iter().fold(0_u64, |sum, &value| sum.wrapping_add(value))
        });
        black_box(sums.sum::<u64>());
        size_of_val(&buffer[..]) as f64 / start.elapsed().as_secs_f64()
    };
    (0..=RUNS).map(|_| run()).fold(0.0, f64::max)
}

/// Four times the largest cache, as far as memory allows.
fn buffer_bytes() -> u64 {
    let allowed = available_bytes().map_or(LARGEST_BUFFER, |bytes| bytes / 4);
    let wanted = (4 * largest_cache()).clamp(LEAST_BUFFER, LARGEST_BUFFER);
    wanted.min(allowed).max(READ as u64)
}

/// Bytes of the largest cache of the first CPU; 0 where the system does not report it.
fn largest_cache() -> u64 {
    let sizes = (0..8).map_while(|index| {
        let file = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        fs::read_to_string(file).ok()
    });
    sizes.filter_map(|size| cache_bytes(size.trim())).max().unwrap_or(0)
}

/// Bytes of a size such as `32K`.
fn cache_bytes(size: &str) -> Option<u64> {
    let (number, unit) = match size.strip_suffix(['K', 'M']) {
        Some(number) => (number, if size.ends_with('K') { 10 } else { 20 }),
        None => (size, 0),
    };
    number.parse::<u64>().ok().map(|number| number << unit)
}

/// The fastest of several products.
fn product(dtype: WeightDtype, device: &Device) -> f64 {
    let [tokens, d_in, d_out] = PRODUCT;
    let weight = LinearWeight::from_stored(Tensor::ones([d_out, d_in], device), dtype);
    let x = Tensor::<2>::ones([tokens, d_in], device);
    let flops = 2.0 * tokens as f64 * d_in as f64 * d_out as f64;
    let (begin, mut best) = (Instant::now(), 0_f64);
    for n_runs in 0.. {
        if n_runs > RUNS && begin.elapsed() >= PRODUCTS {
            break;
        }
        let start = Instant::now();
        black_box(weight.forward(x.clone()).into_data());
        best = best.max(flops / start.elapsed().as_secs_f64());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_caches() {
        assert_eq!(cache_bytes("48K"), Some(48 << 10));
        assert_eq!(cache_bytes("260M"), Some(260 << 20));
        assert_eq!(cache_bytes("512"), Some(512));
        assert_eq!(cache_bytes("large"), None);
    }
}
