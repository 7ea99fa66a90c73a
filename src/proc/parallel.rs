//! Many small readings of the kernel's files on several threads. A few are not worth a thread.

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// Items that a thread has to have to be worth its start.
const SHARE: usize = 24;
/// Items that a thread takes at once.
const CHUNK: usize = 8;
/// More threads than these only wait for the kernel's locks.
const MAX_THREADS: usize = 8;

/// Returns the result of a function for each item, in the order of the items.
pub fn parallel_map<T: Sync, R: Send>(items: &[T], read: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = if items.len() < 2 * SHARE { 1 } else { processors().min(items.len() / SHARE) };
    if threads <= 1 {
        return items.iter().map(read).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            let Some(rest) = items.get(start..).filter(|rest| !rest.is_empty()) else {
                return results;
            };
            let chunk = &rest[..CHUNK.min(rest.len())];
            results.push((start, chunk.iter().map(&read).collect::<Vec<R>>()));
        }
    };
    let mut chunks: Vec<(usize, Vec<R>)> = std::thread::scope(|scope| {
        // (This thread works as well, so that none is needed.)
        let others = (1..threads)
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect::<Vec<_>>();
        let mut chunks = work();
        for worker in others {
            chunks.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        chunks
    });
    chunks.sort_unstable_by_key(|(start, _)| *start);
    chunks.into_iter().flat_map(|(_, results)| results).collect()
}

/// Returns the number of processors that we may use. (The standard library reads the files of our control
/// group for that, which takes longer than what is done here.)
fn processors() -> usize {
    let set = sched_getaffinity(Pid::from_raw(0)).ok();
    let count =
        |set: CpuSet| (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).count();
    set.map_or(1, count).min(MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, SHARE, 10 * SHARE + 3] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(parallel_map(&items, |item| item * 2), doubled);
        }
    }
}
