use std::panic::resume_unwind;
use std::thread;

use rayon::ThreadPoolBuilder;

/// Runs each part on its own thread and returns the results in order. The threads of the current pool are divided among
/// the parts: the operations of one part wait for no other part's.
pub(crate) fn side_by_side<P: Copy + Send + Sync, T: Send>(
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
        let spawn = |&part: &P| scope.spawn(move || run_in_pool(part));
        let running: Vec<_> = parts.iter().map(spawn).collect();
        let join = |running: thread::ScopedJoinHandle<'_, T>| {
            running.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    })
}
