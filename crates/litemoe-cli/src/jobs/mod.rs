//! Fine-tuning jobs of a registry: a thread of `serve` runs them one after another, each as `customize` in a process of its
//! own.

mod attempt;
mod bounded;
mod child;
mod command;
mod events;
mod folder;
mod forecast;
mod hidden;
mod line;
mod made;
mod rows;
mod setup;
mod stop;
mod worker_loop;

use std::thread::{self, JoinHandle};

use anyhow::Context;
use litemoe_registry::Registry;

pub(crate) use self::bounded::JobArgs;
pub(crate) use self::setup::Setup;
use self::stop::Stop;

/// The running jobs of a registry. When it is dropped, the job that runs is stopped and queued again.
#[derive(Debug)]
pub(crate) struct Jobs {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Jobs {
    /// Begins to run the jobs of a registry.
    ///
    /// # Errors
    /// When another process runs them, or files of earlier jobs cannot be removed.
    pub(crate) fn start(registry: &Registry, setup: Setup) -> anyhow::Result<Self> {
        let worker = registry.worker()?;
        folder::sweep(&worker)?;
        let stop = Stop::default();
        let seen = stop.clone();
        let thread = thread::Builder::new()
            .name("jobs".to_owned())
            .spawn(move || worker_loop::run(&worker, &setup, &seen))
            .context("cannot start the thread of the jobs")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
