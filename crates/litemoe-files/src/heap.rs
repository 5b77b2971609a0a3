//! Options of glibc's malloc, for the whole process. Advisory: no effect with other allocators.

#![allow(unsafe_code)]

/// One heap for all threads: what one thread frees, every thread reuses (`M_ARENA_MAX` = 1). By default each thread has
/// a heap of its own, and tensors that are freed by another thread than the next one's stay there unused.
pub fn share_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes no pointer, may be called from any thread and concerns later allocations only.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns the pages of a freed tensor to the operating system at once: allocations from 256 KiB are mapped one by one
/// (`M_MMAP_THRESHOLD`). By default the threshold follows the largest freed block up to 32 MiB, and the heap keeps the
/// holes that such blocks leave. Costs page faults.
pub fn map_large_allocations() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
    }
}
