#![allow(unsafe_code)]

/// Allocations of at least this size are mapped one by one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 256 << 10;

/// Sets glibc's `M_MMAP_THRESHOLD` to 256 KiB for the whole process: a freed tensor's pages return to the operating
/// system at once. By default the threshold follows the largest freed block up to 32 MiB, and the heap keeps the holes
/// that such blocks leave. Advisory: no effect with other allocators.
pub fn map_large_allocations() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes no pointer, may be called from any thread and concerns later allocations only.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}
