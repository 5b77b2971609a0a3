//! Options of glibc's malloc, for the whole process. Advisory: no effect with other allocators.

#![allow(unsafe_code)]

/// As many heaps as cores, which threads share (`M_ARENA_MAX`). By default there are eight times as many: new threads get
/// heaps of their own, and what others have freed stays unused. With a single heap, threads wait for each other.
pub fn share_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let heaps = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX);
        // SAFETY: mallopt takes no pointer, may be called from any thread and concerns later allocations only.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, heaps);
        }
    }
}

/// Keeps freed memory for the allocations that follow: those below 32 MiB come from the heaps (`M_MMAP_THRESHOLD`), which
/// return only what is free at their end beyond 256 MiB (`M_TRIM_THRESHOLD`). By default the pages of a layer's tensors
/// are returned, zeroed and mapped again in every layer.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
    }
}

/// Returns the pages of a freed tensor to the operating system at once: allocations from 256 KiB are mapped one by one.
/// Undoes [`keep_freed_memory`]. Costs page faults.
pub fn map_large_allocations() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}
