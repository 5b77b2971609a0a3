use std::panic::resume_unwind;
use std::thread;

use rayon::ThreadPoolBuilder;

/// Runs each part on its own thread and returns the results in order. The threads of the current pool are divided among
/// the parts: the operations of one part wait for no other part's. Without a thread, a part runs on the caller's.
pub(crate) fn side_by_side<P: Copy + Send + Sync, T: Send>(
    parts: &[P],
    run: impl Fn(P) -> T + Sync,
) -> Vec<T> {
    on_threads(thread::Builder::new, parts, run)
}

fn on_threads<P: Copy + Send + Sync, T: Send>(
    builder: impl Fn() -> thread::Builder,
    parts: &[P],
    run: impl Fn(P) -> T + Sync,
) -> Vec<T> {
    if let &[part] = parts {
        return vec![run(part)];
    }
    let threads = (rayon::current_num_threads() / parts.len()).max(1);
    let run = &run;
    let run_in_pool = |part| match ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(|| run(part)),
        Err(_) => run(part), // no thread can be started: the shared pool gives the same result
    };
    thread::scope(|scope| {
        let spawn = |&part: &P| {
            let running = builder().spawn_scoped(scope, move || run_in_pool(part));
            running.map_err(|_| part)
        };
        let spawned: Vec<_> = parts.iter().map(spawn).collect();
        let finish = |spawned: Result<thread::ScopedJoinHandle<'_, T>, P>| match spawned {
            Ok(running) => running.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(part) => run(part),
        };
        spawned.into_iter().map(finish).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_without_a_thread_run_on_the_callers() {
        let caller = thread::current().id();
        let run = |part: u32| (part * 2, thread::current().id() == caller);
        let refused = || thread::Builder::new().stack_size(1 << (usize::BITS - 2));
        assert_eq!(on_threads(refused, &[1, 2, 3], run), [(2, true), (4, true), (6, true)]);
        assert_eq!(side_by_side(&[1, 2, 3], run), [(2, false), (4, false), (6, false)]);
    }
}
