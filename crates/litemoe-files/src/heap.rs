#![allow(unsafe_code)]

/// Returns the heap's free pages to the operating system (`malloc_trim`). glibc keeps them, also those that large
/// freed blocks leave between smaller live ones. Advisory: no effect with other allocators.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer, may be called from any thread and leaves allocated memory unchanged.
    unsafe {
        libc::malloc_trim(0);
    }
}
