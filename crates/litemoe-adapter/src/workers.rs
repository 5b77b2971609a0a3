use rayon::{ThreadPool, ThreadPoolBuilder, current_num_threads};

/// Thread pools for passes that run in parallel: the operations of one pass wait for no other pass's. They are kept from
/// batch to batch, because a new thread cannot reuse the memory that an ended one has freed.
pub(crate) struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// Divides the threads of the current pool among `n` pools; fewer pools if the system refuses threads.
    pub(crate) fn new(n: usize) -> Self {
        let threads = (current_num_threads() / n.max(1)).max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(threads).build().ok();
        Self { pools: if n < 2 { Vec::new() } else { (0..n).map_while(pool).collect() } }
    }

    /// Runs each part in a pool of its own and returns the results in order. A single part, and parts without a pool, run
    /// in the caller's.
    pub(crate) fn run<P: Copy + Send + Sync, T: Send>(
        &self,
        parts: &[P],
        run: impl Fn(P) -> T + Sync,
    ) -> Vec<T> {
        let pools = if parts.len() < 2 { &[] } else { self.pools.as_slice() };
        let mut results: Vec<Option<T>> = parts.iter().map(|_| None).collect();
        start(pools, parts, &mut results, &run);
        results.into_iter().map(|result| result.expect("every part has run")).collect()
    }
}

fn start<P: Copy + Send + Sync, T: Send>(
    pools: &[ThreadPool],
    parts: &[P],
    results: &mut [Option<T>],
    run: &(impl Fn(P) -> T + Sync),
) {
    let (Some((&part, parts)), Some((result, results))) =
        (parts.split_first(), results.split_first_mut())
    else {
        return;
    };
    let Some((pool, pools)) = pools.split_first() else {
        *result = Some(run(part));
        return start(pools, parts, results, run);
    };
    pool.in_place_scope(|scope| {
        scope.spawn(|_| *result = Some(run(part)));
        start(pools, parts, results, run);
    });
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn parts_without_a_pool_run_in_the_callers() {
        let caller = thread::current().id();
        let run = |part: u32| (part * 2, thread::current().id() == caller);
        let workers = |n| Workers::new(n).run(&[1, 2, 3], run);
        assert_eq!(workers(3), [(2, false), (4, false), (6, false)]);
        assert_eq!(workers(2), [(2, false), (4, false), (6, true)]);
        assert_eq!(workers(1), [(2, true), (4, true), (6, true)]);
        assert_eq!(Workers::new(3).run(&[1], run), [(2, true)]);
    }
}
