//! Work on many hosts at the same time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Applies a function to each item, up to `parallel` at a time. The results are in the order of the items.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], parallel: usize, f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let work = || {
        while let Some((place, item)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            items.get(place).map(|item| (place, item))
        } {
            let result = f(item);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
        }
    };
    if items.len() < 2 || parallel < 2 {
        work();
    } else {
        thread::scope(|scope| {
            for _ in 0..parallel.min(items.len()) {
                scope.spawn(work);
            }
        });
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        for parallel in [1, 2, 32, 256] {
            let results = map(&items, parallel, |item| item * 2);
            assert_eq!(results, (0..1000).map(|item| item * 2).collect::<Vec<_>>(), "{parallel}");
        }
        assert_eq!(map(&[0_u32; 0], 4, |item| *item), [0_u32; 0]);
    }

    #[test]
    fn the_first_item_may_finish_last() {
        let (is_ready, others) = std::sync::mpsc::channel();
        let (is_ready, others) = (Mutex::new(is_ready), Mutex::new(others));
        let results = map(&[0, 1], 2, |item| {
            // The first item waits for the second.
            let done = match item {
                0 => others.lock().unwrap().recv_timeout(std::time::Duration::from_secs(20)).is_ok(),
                _ => is_ready.lock().unwrap().send(()).is_ok(),
            };
            (*item, done)
        });
        assert_eq!(results, [(0, true), (1, true)]);
    }
}
