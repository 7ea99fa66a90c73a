//! Distinguishes a task that a process or a file system blocks from one that waits for a CPU: the time in
//! which a task could not run is not evidence about the file that it was going to read.

use std::time::{Duration, Instant};

/// The longest total extension of a deadline, for a task that always runs or waits for a CPU.
const MAX_EXTENSION: Duration = Duration::from_secs(10);
/// The extension for a task that could run now.
const MOMENT: Duration = Duration::from_millis(20);

/// The time by which a task of this program has to be done, not counted while it waits for a CPU.
#[derive(Debug)]
pub struct TaskDeadline {
    time: Instant,
    /// The latest time to which it is extended.
    limit: Instant,
    wait: CpuWait,
}

impl TaskDeadline {
    /// Sets a deadline for a process with one thread.
    pub fn new(time: Instant, pid: i32) -> Self {
        Self { time, limit: time + MAX_EXTENSION, wait: CpuWait::new(pid, pid) }
    }

    /// Returns the time until then.
    pub fn remaining(&self) -> Duration {
        self.time.saturating_duration_since(Instant::now())
    }

    /// Whether the deadline has passed; extends it first by the time that the task has waited for a CPU.
    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now < self.time {
            return false;
        }
        let extension = self.wait.extension();
        self.time = now + extension;
        extension.is_zero() || self.time > self.limit
    }
}

/// The time that a thread of this program has waited for a CPU.
#[derive(Debug)]
pub struct CpuWait {
    pid: i32,
    tid: i32,
    /// The part of it that has been returned as an extension.
    excused: Duration,
}

impl CpuWait {
    /// Watches a thread of a process.
    pub fn new(pid: i32, tid: i32) -> Self {
        Self { pid, tid, excused: Duration::ZERO }
    }

    /// Returns how much longer to wait for the thread, whose time is over: as long as it has waited for a
    /// CPU since the last call, and a moment if it could run now.
    pub fn extension(&mut self) -> Duration {
        let waited = self.waited();
        let extension = waited.saturating_sub(self.excused);
        self.excused = waited;
        if self.is_runnable() { extension.max(MOMENT) } else { extension }
    }

    fn read(&self, file: &str) -> Vec<u8> {
        let path = format!("/proc/{}/task/{}/{file}", self.pid, self.tid);
        std::fs::read(path).unwrap_or_default()
    }

    /// Returns the second number of `schedstat`, in nanoseconds (Documentation/scheduler/sched-stats.rst); nothing
    /// where the kernel does not count it.
    fn waited(&self) -> Duration {
        let text = self.read("schedstat");
        let number = text.split(|byte| *byte == b' ').nth(1);
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        Duration::from_nanos(number.unwrap_or(0))
    }

    fn is_runnable(&self) -> bool {
        let stat = self.read("stat");
        let end = stat.iter().rposition(|byte| *byte == b')');
        end.and_then(|end| stat.get(end + 2)) == Some(&b'R')
    }
}

/// Returns how long processes of the host have waited for a CPU since it booted, as the kernel counts it
/// since Linux 4.20; nothing where that is turned off.
pub fn stalled() -> Duration {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = text.lines().next().and_then(|line| line.split("total=").nth(1)?.parse().ok());
    Duration::from_micros(total.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_task_gets_more_time_and_a_sleeping_one_does_not() {
        let (pid, tid) = (std::process::id() as i32, nix::unistd::gettid().as_raw());
        assert!(CpuWait::new(pid, tid).extension() >= MOMENT);
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::Builder::new().spawn(move || {
            sender.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = ended.recv();
        });
        let mut sleeping = CpuWait::new(pid, receiver.recv().unwrap());
        // (It is asleep at some moment, and has waited for no CPU since.)
        while sleeping.extension() > Duration::ZERO {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(end);
        sleeper.unwrap().join().unwrap();
    }
}
