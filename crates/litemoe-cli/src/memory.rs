//! Peak memory of a process, as the operating system reports it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const SAMPLE_EVERY: Duration = Duration::from_millis(5);

/// Peak memory in bytes; 0 where the system does not report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Peak {
    /// Anonymous memory (heap and stacks), sampled every 5 ms from `RssAnon` in `/proc/self/status`.
    pub(crate) anonymous: u64,
    /// Resident set size, file pages included: `VmHWM`, the maximum resident set size of `/usr/bin/time -v`.
    pub(crate) resident: u64,
}

/// Anonymous memory of this process now, in bytes.
pub(crate) fn anonymous_bytes() -> u64 {
    status_bytes("self", "RssAnon:")
}

/// Anonymous memory of another process now, in bytes; 0 if there is none.
pub(crate) fn anonymous_bytes_of(process: u32) -> u64 {
    status_bytes(&process.to_string(), "RssAnon:")
}

/// Samples this process's memory in a thread.
pub(crate) struct MemoryWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    /// Starts sampling.
    pub(crate) fn start() -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (peak.clone(), stop.clone());
        let sampler = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous_bytes(), Ordering::Relaxed);
                thread::sleep(SAMPLE_EVERY);
            }
        });
        Self { peak, stop, sampler: Some(sampler) }
    }

    /// The peak so far.
    pub(crate) fn peak(&self) -> Peak {
        let now = self.peak.fetch_max(anonymous_bytes(), Ordering::Relaxed);
        Peak {
            anonymous: now.max(self.peak.load(Ordering::Relaxed)),
            resident: status_bytes("self", "VmHWM:"),
        }
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            let _ = sampler.join();
        }
    }
}

/// A field of `/proc/PROCESS/status` in bytes; 0 if it is missing.
fn status_bytes(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes =
        line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const BLOCK: u64 = 512 << 20;

    /// Other tests of this process allocate and free meanwhile: no difference of two readings is this test's own, but
    /// while the block lives, no reading may be below its size.
    #[test]
    fn an_allocation_shows_in_the_peak_after_it_is_freed() {
        let watch = MemoryWatch::start();
        let block = vec![1u8; BLOCK as usize];
        assert!(block.iter().map(|&byte| u64::from(byte)).sum::<u64>() > 0);
        assert!(anonymous_bytes() >= BLOCK);
        let during = watch.peak().anonymous;
        drop(block);
        assert!(during >= BLOCK, "{during}");
        assert!(watch.peak().anonymous >= during);
    }
}
