//! Many hosts at the same time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Does something about each item, some of them at the same time; the answers come in the order of the items.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], parallel: usize, act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::with_capacity(items.len()));
    let work = || {
        while let Some((place, item)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            items.get(place).map(|item| (place, item))
        } {
            let answer = act(item);
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((place, answer));
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
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_unstable_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..1000).collect();
        for parallel in [1, 2, 32, 256] {
            let answers = map(&items, parallel, |item| item * 2);
            assert_eq!(answers, (0..1000).map(|item| item * 2).collect::<Vec<_>>(), "{parallel}");
        }
        assert_eq!(map(&[0_u32; 0], 4, |item| *item), [0_u32; 0]);
    }

    #[test]
    fn the_first_may_be_ready_last() {
        let (is_ready, others) = std::sync::mpsc::channel();
        let (is_ready, others) = (Mutex::new(is_ready), Mutex::new(others));
        let answers = map(&[0, 1], 2, |item| {
            // Each at its own time: the first waits for the second.
            let told = match item {
                0 => others.lock().unwrap().recv_timeout(std::time::Duration::from_secs(20)).is_ok(),
                _ => is_ready.lock().unwrap().send(()).is_ok(),
            };
            (*item, told)
        });
        assert_eq!(answers, [(0, true), (1, true)]);
    }
}
