//! What a process of this machine has used, from Linux's `/proc`, and what the calling thread
//! has.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};

/// Cumulative use.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub(crate) struct Usage {
    /// Nanoseconds on a core, by the scheduler's count, user and system.
    pub(crate) cpu_ns: u64,
    /// Clock ticks in user mode.
    pub(crate) user_ticks: u64,
    /// Clock ticks in the kernel.
    pub(crate) system_ticks: u64,
    /// Context switches.
    pub(crate) switches: u64,
    /// Resident bytes now.
    pub(crate) resident: u64,
}

impl Usage {
    /// As of now.
    ///
    /// # Errors
    /// When there is no such process or it may not be looked at.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Usage> {
        let root = PathBuf::from(format!("/proc/{pid}"));
        let mut usage = Usage::default();
        let tasks = fs::read_dir(root.join("task")).with_context(|| format!("--pid {pid}"))?;
        for task in tasks {
            let task = task?.path();
            // A thread may end between the listing and the reading.
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            usage.cpu_ns += first_number(&text);
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            for line in status.lines().filter(|line| line.contains("ctxt_switches")) {
                usage.switches += line.rsplit('\t').next().map_or(0, first_number);
            }
        }
        let stat = fs::read_to_string(root.join("stat"))?;
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let mut times = fields.split_whitespace().skip(11).map(first_number);
        usage.user_ticks = times.next().unwrap_or(0);
        usage.system_ticks = times.next().unwrap_or(0);
        let status = fs::read_to_string(root.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        usage.resident = 1_024 * resident.map_or(0, |text| first_number(text.trim()));
        Ok(usage)
    }

    /// What has been used since; `resident` stays as of now.
    pub(crate) fn since(&self, before: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
            switches: self.switches.saturating_sub(before.switches),
            resident: self.resident,
        }
    }
}

/// Nanoseconds that the calling thread has been on a core.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn first_number(text: &str) -> u64 {
    let digits = text.split_whitespace().next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}
