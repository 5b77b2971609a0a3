/// Has the kernel send SIGTERM to this process when its parent ends, more exactly the thread that started it, so that no
/// stage outlives `customize`, and no job `serve`. Linux alone; elsewhere such a process runs to its end, and a stage holds
/// the lock of the records until then.
///
/// # Errors
/// When the parent has ended already.
pub(crate) fn end_with_parent(parent: u32) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

        set_parent_process_death_signal(Some(Signal::TERM))?;
        let found = getppid().map(Pid::as_raw_nonzero);
        if found.is_none_or(|found| u32::try_from(found.get()).ok() != Some(parent)) {
            anyhow::bail!("the process {parent}, which started this one, has ended");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}
