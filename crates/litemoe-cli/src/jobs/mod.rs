//! Fine-tuning jobs of a registry: a thread of `serve` runs them one after another, each as `customize` in a process of its
//! own. Proxies for apps that tune on their own devices are made in processes of the same kind.

mod attempt;
mod bounded;
mod child;
mod command;
mod events;
mod folder;
mod forecast;
mod group_memory;
mod hidden;
mod line;
mod made;
mod patience;
mod proxies;
mod rows;
mod setup;
mod stop;
mod worker_loop;

use std::thread::{self, JoinHandle};

use anyhow::Context;
use litemoe_registry::{Registry, RegistryError};

pub(crate) use self::bounded::JobArgs;
pub(crate) use self::proxies::ProxyJobs;
pub(crate) use self::setup::Setup;
use self::stop::Stop;
use crate::output;

/// The running jobs of a registry. When it is dropped, the job that runs is stopped and queued again.
#[derive(Debug)]
pub(crate) struct Jobs {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Jobs {
    /// Begins to run the jobs of a registry; while another process runs them, waits for its end.
    ///
    /// # Errors
    /// When the registry cannot be read or written to.
    pub(crate) fn start(registry: &Registry, setup: Setup) -> anyhow::Result<Self> {
        let worker = match registry.worker() {
            Ok(worker) => Some(worker),
            Err(RegistryError::WorkerBusy) => {
                output::note("another process runs the registry's fine-tuning jobs");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let (registry, stop) = (registry.clone(), Stop::default());
        let seen = stop.clone();
        let thread = thread::Builder::new().name("jobs".to_owned());
        let thread = thread.spawn(move || {
            if let Some(worker) = worker.or_else(|| worker_loop::wait(&registry, &seen)) {
                worker_loop::run(&worker, &setup, &seen);
            }
        });
        let thread = thread.context("cannot start the thread of the jobs")?;
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
