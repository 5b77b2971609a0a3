use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context;

use crate::signals::INTERRUPTED;

/// Ctrl-C handler: stops the answer that is being generated. Without one, or if the answer does not stop, it exits.
pub(crate) struct Interrupt {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    answering: AtomicBool,
    interrupted: AtomicBool,
}

impl Interrupt {
    /// Starts the handler.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let state = Arc::<State>::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot watch for Ctrl-C")?;
        let seen = state.clone();
        let watch = async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                let again = seen.interrupted.swap(true, Ordering::Relaxed);
                if again || !seen.answering.load(Ordering::Relaxed) {
                    process::exit(INTERRUPTED);
                }
            }
        };
        thread::spawn(move || runtime.block_on(watch));
        Ok(Self { state })
    }

    /// Runs `answer`, which receives a check for interruption to call often.
    pub(crate) fn while_answering<T>(&self, answer: impl FnOnce(&dyn Fn() -> bool) -> T) -> T {
        let State { answering, interrupted } = &*self.state;
        interrupted.store(false, Ordering::Relaxed);
        answering.store(true, Ordering::Relaxed);
        let given = answer(&|| interrupted.load(Ordering::Relaxed));
        answering.store(false, Ordering::Relaxed);
        given
    }
}
