//! Many small files of the kernel, read on several threads; for a few files a thread does not pay off.

use crate::sys::parallel;

/// The fewest items per thread for which starting it pays off.
const SHARE: usize = 24;
/// Items that a thread takes at once.
const CHUNK: usize = 8;

/// Returns the result of a function for each item, in the order of the items.
pub fn parallel_map<T: Sync, R: Send>(items: &[T], read: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() < 2 * SHARE {
        return items.iter().map(read).collect();
    }
    let threads = parallel::cpus().min(items.len() / SHARE);
    let chunks: Vec<&[T]> = items.chunks(CHUNK).collect();
    let results = parallel::map(chunks.len(), threads, |chunk| {
        chunks[chunk].iter().map(&read).collect::<Vec<R>>()
    });
    results.into_iter().flatten().collect()
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
