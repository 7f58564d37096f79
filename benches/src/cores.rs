//! The cores that a process may run on. Only Linux tells; elsewhere everything runs on any.

/// Lets the calling thread run on the cores of a process and no others.
///
/// # Errors
/// When there is no such process or the kernel refuses.
#[cfg(target_os = "linux")]
pub(crate) fn run_on_those_of(pid: u32) -> anyhow::Result<()> {
    use anyhow::Context;
    use rustix::thread::{Pid, sched_getaffinity, sched_setaffinity};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.context("--pid is not a process id")?;
    let cores = sched_getaffinity(Some(pid)).context("the server's cores")?;
    sched_setaffinity(None, &cores)?;
    Ok(())
}

/// Leaves the thread where it is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run_on_those_of(_: u32) -> anyhow::Result<()> {
    Ok(())
}
