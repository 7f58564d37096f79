//! How many system calls a process makes, by the kernel's `raw_syscalls:sys_enter` tracepoint.
//! (`/proc/PID/io` counts only `read` and `write`, not what sockets are used by.)

use std::fs;

use anyhow::Context;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Where the kernel's tracing file system may be mounted.
const TRACING: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A counter for each thread of a process.
pub(crate) struct SystemCalls(Vec<Counter>);

impl SystemCalls {
    /// Begins to count those of all threads that there are, and of threads that they start.
    ///
    /// # Errors
    /// When the kernel does not tell: tracing is not mounted, or this user may not ask.
    pub(crate) fn watch(pid: u32) -> anyhow::Result<SystemCalls> {
        let files = TRACING.map(|root| format!("{root}/events/raw_syscalls/sys_enter/id"));
        let id = files.iter().find_map(|file| fs::read_to_string(file).ok());
        let id = id.context("the kernel's tracing is not mounted or not to be read")?;
        let event = Tracepoint::with_id(id.trim().parse()?);
        let mut counters = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let Ok(thread) = task?.file_name().to_string_lossy().parse() else {
                continue;
            };
            let mut builder = Builder::new(event);
            // The tracepoint is passed in the kernel, whoever called.
            builder.observe_pid(thread).any_cpu().include_kernel();
            builder.inherit(true).enabled(true);
            counters.push(builder.build().context("perf_event_open")?);
        }
        Ok(SystemCalls(counters))
    }

    /// How many since it began.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn count(mut self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for counter in &mut self.0 {
            sum += counter.read()?;
        }
        Ok(sum)
    }
}
