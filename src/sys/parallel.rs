//! Work on several threads at once, whose results come back in order. For work that ends: a thread that hangs
//! would hold up all (`proc::snapshot` has its own).

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::Pid;

/// The most threads that speed up a command.
const MAX_THREADS: usize = 4;

/// Returns how many threads can compute at once, at most 4.
pub fn cpus() -> usize {
    // (std's number of CPUs reads a dozen files of cgroups.)
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let count = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).take(MAX_THREADS);
    count.count().max(1)
}

/// Runs a function that starts threads, which inherit a mask of all signals: a signal must reach the thread
/// that can clean up. Handled in another one, it would stop or end the program with the terminal as a screen
/// left it.
pub fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let started = start();
    let _ = before.map(|before| before.thread_set_mask());
    started
}

/// Calls a function for each number below `count` on so many threads, this one among them, and returns the
/// results in order. Each thread takes the next number: some take longer than others.
pub fn map<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        let mine = numbers.take_while(|number| *number < count);
        mine.map(|number| (number, work(number))).collect::<Vec<_>>()
    };
    let mut results = std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, take).ok();
        let others: Vec<_> = match threads.min(count) {
            0 | 1 => Vec::new(),
            threads => with_signals_blocked(|| (1..threads).filter_map(spawn).collect()),
        };
        let mut results = take();
        for thread in others {
            results.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        for (count, threads) in [(0, 4), (1, 4), (100, 1), (1000, cpus()), (3, 1000)] {
            let squares: Vec<usize> = (0..count).map(|number| number * number).collect();
            assert_eq!(map(count, threads, |number| number * number), squares);
        }
    }
}
