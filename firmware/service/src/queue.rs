//! A queue between two threads, of a fixed capacity: nothing is allocated, nobody waits for room.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use heapless::Deque;

use crate::sync::lock;

struct State<T, const N: usize> {
    items: Deque<T, N>,
    closed: bool,
}

/// See the module.
pub(crate) struct Queue<T, const N: usize> {
    state: Mutex<State<T, N>>,
    filled: Condvar,
}

/// What a queue has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Popped<T> {
    Item(T),
    /// Nothing within the time given.
    Nothing,
    /// There will be nothing more.
    Closed,
}

impl<T, const N: usize> Default for Queue<T, N> {
    fn default() -> Self {
        Self { state: Mutex::new(State { items: Deque::new(), closed: false }), filled: Condvar::new() }
    }
}

impl<T, const N: usize> Queue<T, N> {
    /// Adds an item; `false` if there is no room, or the queue is closed.
    pub(crate) fn push(&self, item: T) -> bool {
        self.offer(item).is_ok()
    }

    /// Adds an item, or gives it back if there is no room, or the queue is closed.
    pub(crate) fn offer(&self, item: T) -> Result<(), T> {
        let mut state = lock(&self.state);
        let result = if state.closed { Err(item) } else { state.items.push_back(item) };
        drop(state);
        self.filled.notify_one();
        result
    }

    /// Takes the oldest item, or waits for one.
    pub(crate) fn pop(&self, wait: Duration) -> Popped<T> {
        let idle = |state: &mut State<T, N>| state.items.is_empty() && !state.closed;
        let (mut state, _) = self
            .filled
            .wait_timeout_while(lock(&self.state), wait, idle)
            .unwrap_or_else(PoisonError::into_inner);
        match state.items.pop_front() {
            Some(item) => Popped::Item(item),
            None if state.closed => Popped::Closed,
            None => Popped::Nothing,
        }
    }

    /// Takes the oldest item, however long it takes; `None` when there will be nothing more.
    pub(crate) fn wait(&self) -> Option<T> {
        let idle = |state: &mut State<T, N>| state.items.is_empty() && !state.closed;
        let mut state =
            self.filled.wait_while(lock(&self.state), idle).unwrap_or_else(PoisonError::into_inner);
        state.items.pop_front()
    }

    /// Takes nothing more; what waits can still be taken.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_has_no_room_is_refused_and_the_rest_comes_in_order() {
        let queue = Queue::<u32, 2>::default();
        assert_eq!([1, 2, 3].map(|item| queue.push(item)), [true, true, false]);
        queue.close();
        assert!(!queue.push(4));
        let popped = [(); 3].map(|()| queue.pop(Duration::ZERO));
        assert_eq!(queue.wait(), None);
        assert_eq!(popped, [Popped::Item(1), Popped::Item(2), Popped::Closed]);
    }

    #[test]
    fn whoever_waits_is_woken() {
        let queue = Queue::<u32, 2>::default();
        assert_eq!(queue.pop(Duration::from_millis(1)), Popped::Nothing);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| [(); 2].map(|()| queue.pop(Duration::from_mins(1))));
            queue.push(7);
            queue.close();
            assert_eq!(waiting.join().unwrap(), [Popped::Item(7), Popped::Closed]);
        });
    }
}
