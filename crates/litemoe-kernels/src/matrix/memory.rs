//! Memory of packed weights, in huge pages where the system has them: products of few rows are bound by reading it.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytemuck::Zeroable;
use memmap2::{MmapMut, MmapOptions};

/// Bytes of a chunk, which many buffers share: experts are smaller than the huge pages they lie in.
const CHUNK: usize = 64 << 20;

/// Size and alignment of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Alignment of buffers.
const CACHE_LINE: usize = 64;

/// Values in a part of a chunk, which is freed with the last of its buffers.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    chunk: Arc<Chunk>,
    /// Offset in bytes.
    offset: usize,
    len: usize,
    values: PhantomData<[T]>,
}

impl<T: Copy + Zeroable> Buffer<T> {
    /// `n` zeroed values.
    ///
    /// # Panics
    /// When there is not enough memory, or no address space for as many.
    pub(super) fn zeroed(n: usize) -> Self {
        const { assert!(align_of::<T>() <= CACHE_LINE) };
        let size = n.checked_mul(size_of::<T>());
        let (chunk, offset) = reserve(size.unwrap_or_else(|| beyond(n)));
        Self { chunk, offset, len: n, values: PhantomData }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the range was reserved for this buffer alone, is aligned, and zeroed bytes are values.
        unsafe { slice::from_raw_parts(self.chunk.start(self.offset).cast(), self.len) }
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; the buffer is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.chunk.start(self.offset).cast(), self.len) }
    }
}

/// Anonymous memory, of which ranges are given out one after the other.
#[derive(Debug)]
struct Chunk {
    map: MmapMut,
    /// Offset of the first byte in use: that of a huge page.
    first: usize,
}

impl Chunk {
    fn new(size: usize) -> Self {
        let len = size.checked_add(HUGE_PAGE).unwrap_or_else(|| beyond(size));
        let map = MmapOptions::new().len(len).map_anon();
        let map = map.unwrap_or_else(|error| panic!("{size} bytes of weights: {error}"));
        // Only a hint: without huge pages, products are slower.
        #[cfg(all(target_os = "linux", not(miri)))]
        let _ = map.advise(memmap2::Advice::HugePage);
        let first = map.as_ptr().align_offset(HUGE_PAGE);
        Self { map, first }
    }

    fn start(&self, offset: usize) -> *mut u8 {
        self.map.as_ptr().wrapping_add(self.first + offset).cast_mut()
    }
}

fn beyond(n: usize) -> ! {
    panic!("{n} values or bytes of weights: beyond the address space")
}

/// The chunk that has room, with the number of bytes given out.
struct Current {
    chunk: Weak<Chunk>,
    used: usize,
}

/// Reserves a range that nobody else has: the chunk and the range's offset.
fn reserve(size: usize) -> (Arc<Chunk>, usize) {
    static CURRENT: Mutex<Current> = Mutex::new(Current { chunk: Weak::new(), used: 0 });
    let size = size.checked_next_multiple_of(CACHE_LINE).unwrap_or_else(|| beyond(size));
    if size > CHUNK / 2 {
        return (Arc::new(Chunk::new(size)), 0);
    }
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    match current.chunk.upgrade() {
        Some(chunk) if current.used + size <= CHUNK => {
            let offset = current.used;
            current.used += size;
            (chunk, offset)
        }
        _ => {
            let chunk = Arc::new(Chunk::new(CHUNK));
            *current = Current { chunk: Arc::downgrade(&chunk), used: size };
            (chunk, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_the_address_space_are_refused() {
        for n in [usize::MAX / 8 + 1, usize::MAX / 8, (usize::MAX - HUGE_PAGE / 2) / 8, usize::MAX]
        {
            let panic = std::panic::catch_unwind(|| Buffer::<u64>::zeroed(n)).unwrap_err();
            let message = panic.downcast_ref::<String>().expect("a message");
            assert!(message.contains("beyond the address space"), "{n}: {message}");
        }
    }

    #[test]
    fn buffers_are_zeroed_aligned_and_apart() {
        let sizes = [1, 16, 1000, 3, CHUNK / 64, 70_000, CHUNK / 8 + 1, CHUNK / 20];
        let fill = |n| {
            let mut buffer = Buffer::<u64>::zeroed(n);
            assert_eq!((buffer.len(), buffer.as_ptr().align_offset(CACHE_LINE)), (n, 0));
            assert!(buffer.iter().all(|&value| value == 0));
            buffer.fill(n as u64);
            buffer
        };
        let buffers = sizes.map(fill);
        for (n, buffer) in sizes.into_iter().zip(buffers) {
            assert!(buffer.iter().all(|&value| value == n as u64), "{n}");
        }
    }
}
