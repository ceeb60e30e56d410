//! What waits for delivery. Whoever puts something in never waits and wakes nobody: the exporter looks by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

/// A bounded queue that counts what found no room.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: ArrayQueue<T>,
    dropped: AtomicU64,
}

impl<T> Queue<T> {
    /// With room for `items_max`.
    pub fn new(items_max: usize) -> Self {
        Self { waiting: ArrayQueue::new(items_max.max(1)), dropped: AtomicU64::new(0) }
    }

    /// Leaves an item, or counts it where there is no room.
    pub fn push(&self, item: T) {
        if self.waiting.push(item).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes up to `items_max`, the oldest first.
    pub fn take(&self, items_max: usize) -> Vec<T> {
        std::iter::from_fn(|| self.waiting.pop()).take(items_max).collect()
    }

    /// How many found no room since this was last asked.
    pub fn dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_once_and_the_rest_comes_in_order() {
        let queue = Queue::new(4);
        (0..7).for_each(|item| queue.push(item));
        assert_eq!((queue.dropped(), queue.dropped()), (3, 0));
        assert_eq!((queue.take(3), queue.take(3)), (vec![0, 1, 2], vec![3]));
        queue.push(9);
        assert_eq!((queue.take(3), queue.dropped()), (vec![9], 0));
    }
}
