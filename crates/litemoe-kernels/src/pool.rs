//! Threads for short parallel regions: they spin a while after each before they sleep, so that the next one starts at
//! once. A region of a decoding step takes some microseconds, less than it takes to wake a sleeping thread.

#![allow(unsafe_code)]

use std::any::Any;
use std::hint;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread without work spins.
const SPIN: Duration = Duration::from_micros(100);

/// Calls `f` with each item, on as many threads as Rayon has here. While another region is at work, on this thread alone.
///
/// # Panics
/// When `f` does.
pub(crate) fn for_each<T: Send>(items: &mut [T], f: impl Fn(&mut T) + Sync) {
    let start = Items(items.as_mut_ptr());
    let call = |index| {
        // SAFETY: an item that no other call is given, since each index is taken once.
        f(unsafe { &mut *start.at(index) });
    };
    each(items.len(), &call);
}

/// Start of a slice whose items go to different threads.
struct Items<T>(*mut T);

// SAFETY: as `&mut [T]` that is split between threads.
unsafe impl<T: Send> Sync for Items<T> {}

impl<T> Items<T> {
    fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

/// Calls `f` with every number below `n`, once each.
fn each(n: usize, f: &(dyn Fn(usize) + Sync)) {
    static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);
    let threads = rayon::current_num_threads().min(n);
    if threads < 2 || !POOL.run(n, threads - 1, f) {
        (0..n).for_each(f);
    }
}

/// Parallel region, on the stack of the thread that began it.
struct Region<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    n: usize,
    /// The next number to be taken.
    next: AtomicUsize,
    /// Threads that may still join.
    seats: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Region<'_> {
    fn work(&self) {
        let work = || {
            loop {
                let index = self.next.fetch_add(1, SeqCst);
                if index >= self.n {
                    break;
                }
                (self.f)(index);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            self.next.store(self.n, SeqCst);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match &*first {
                None => *first = Some(panic),
                // Its destructor could panic too.
                Some(_) => mem::forget(panic),
            }
        }
    }

    fn join(&self) {
        let taken = self.seats.fetch_update(SeqCst, SeqCst, |seats| seats.checked_sub(1));
        if taken.is_ok() {
            self.work();
        }
    }
}

/// One region at a time.
#[derive(Default)]
struct Pool {
    /// Held by the thread whose region is at work.
    threads: Mutex<Threads>,
    shared: &'static Shared,
}

#[derive(Default)]
struct Threads {
    started: usize,
    /// Whether the system refused one.
    refused: bool,
}

impl Threads {
    /// Starts threads until there are `n`. None any more after the system has refused one: regions have fewer threads.
    fn start(&mut self, n: usize, mut spawn: impl FnMut() -> io::Result<()>) {
        while self.started < n && !self.refused {
            match spawn() {
                Ok(()) => self.started += 1,
                Err(_) => self.refused = true,
            }
        }
    }
}

/// What the threads see.
#[derive(Default)]
struct Shared {
    /// The current region, or null.
    region: AtomicPtr<Region<'static>>,
    /// Number of regions so far.
    epoch: AtomicUsize,
    /// Threads that may have a reference to the current region.
    inside: AtomicUsize,
    /// Threads that sleep, or are about to.
    asleep: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Default for &'static Shared {
    fn default() -> Self {
        Box::leak(Box::default())
    }
}

impl Pool {
    /// Runs a region with up to `helpers` more threads; false if another region is at work.
    fn run(&self, n: usize, helpers: usize, f: &(dyn Fn(usize) + Sync)) -> bool {
        let mut threads = match self.threads.try_lock() {
            Ok(threads) => threads,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let shared = self.shared;
        threads.start(helpers, || {
            let thread = thread::Builder::new().name("litemoe-kernels".to_owned());
            thread.spawn(move || shared.serve()).map(drop)
        });
        let (next, seats) = (AtomicUsize::new(0), AtomicUsize::new(helpers));
        let region = Region { f, n, next, seats, panic: Mutex::new(None) };
        let begun = shared.begin(&region);
        region.work();
        drop(begun);
        let panic = region.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        drop(threads);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        true
    }
}

/// A region that threads may join; withdrawn when dropped.
struct Begun<'a>(&'a Shared);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A thread that may have a reference to the current region.
struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn new(inside: &'a AtomicUsize) -> Self {
        inside.fetch_add(1, SeqCst);
        Self(inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn begin(&self, region: &Region<'_>) -> Begun<'_> {
        // The threads use it only while `inside` is not 0, which `end` waits for.
        self.region.store(ptr::from_ref(region).cast_mut().cast(), SeqCst);
        self.epoch.fetch_add(1, SeqCst);
        if self.asleep.load(SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
        Begun(self)
    }

    /// Withdraws the region and waits for the threads that work on it.
    fn end(&self) {
        self.region.store(ptr::null_mut(), SeqCst);
        while self.inside.load(SeqCst) > 0 {
            hint::spin_loop();
        }
    }

    /// Life of a thread.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            self.wait(seen);
            seen = self.epoch.load(SeqCst);
            let _inside = Inside::new(&self.inside);
            // SAFETY: a region that is not yet withdrawn. `end` withdraws it before it looks at `inside`, which this
            // thread has raised before it looked for the region: either this thread finds no region, or `end` waits.
            if let Some(region) = unsafe { self.region.load(SeqCst).as_ref() } {
                region.join();
            }
        }
    }

    /// Waits for a region after number `seen`.
    fn wait(&self, seen: usize) {
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..32 {
                if self.epoch.load(SeqCst) != seen {
                    return;
                }
                hint::spin_loop();
            }
        }
        self.asleep.fetch_add(1, SeqCst);
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.epoch.load(SeqCst) == seen {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        drop(lock);
        self.asleep.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn every_item_is_visited_once() {
        for n in [0, 1, 2, 3, 17, 1000] {
            for _ in 0..50 {
                let mut items = vec![0; n];
                for_each(&mut items, |item| *item += 1);
                assert!(items.iter().all(|&item| item == 1), "{n}: {items:?}");
            }
        }
    }

    #[test]
    fn regions_begun_by_many_threads_and_inside_regions_all_end() {
        let mut items = vec![[0; 20]; 50];
        thread::scope(|scope| {
            for items in items.chunks_mut(10) {
                scope.spawn(|| {
                    for _ in 0..100 {
                        for_each(items, |item| for_each(item, |it| *it += 1));
                    }
                });
            }
        });
        assert_eq!(items, vec![[100; 20]; 50]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        for index in [0, 7, 99] {
            let mut items: Vec<_> = (0..100).collect();
            let run = || for_each(&mut items, |item| assert_ne!(*item, index, "item {index}"));
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            let message = panic.downcast_ref::<String>().expect("a message");
            assert!(message.contains(&format!("item {index}")), "{message}");
        }
        let mut items = [1; 9];
        for_each(&mut items, |item| *item *= 2);
        assert_eq!(items, [2; 9]);
    }

    #[test]
    fn the_first_of_several_panics_reaches_the_caller_whatever_their_destructors_do() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a destructor");
            }
        }
        let (pool, both) = (Pool::default(), Barrier::new(2));
        for _ in 0..20 {
            let run = || {
                pool.run(2, 1, &|_| {
                    both.wait();
                    panic_any(Bomb);
                })
            };
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert!(panic.is::<Bomb>());
            mem::forget(panic);
        }
        let visited = AtomicUsize::new(0);
        assert!(pool.run(9, 1, &|index| {
            visited.fetch_add(index, SeqCst);
        }));
        assert_eq!(visited.into_inner(), 36);
    }

    #[test]
    fn a_refused_thread_is_not_asked_for_again() {
        let (mut threads, mut asked) = (Threads::default(), 0);
        for _ in 0..3 {
            threads.start(4, || {
                asked += 1;
                if asked < 3 { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            });
        }
        assert_eq!((threads.started, asked), (2, 3));
    }

    #[test]
    fn a_sleeping_pool_wakes() {
        for _ in 0..3 {
            let mut items = [0; 64];
            for_each(&mut items, |item| *item += 1);
            assert_eq!(items, [1; 64]);
            thread::sleep(3 * SPIN);
        }
    }
}
