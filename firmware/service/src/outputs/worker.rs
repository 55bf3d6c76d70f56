//! A thread with a bounded queue.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use resight_base::wait;

use crate::queue::Queue;
use crate::threads::{Role, spawn};

/// A thread that works on what it is sent. Nothing here waits for it but [`close`](Self::close).
pub(super) struct Worker<T, const N: usize> {
    queue: Arc<Queue<T, N>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static, const N: usize> Worker<T, N> {
    /// Starts the thread; up to `N` things may wait for it.
    ///
    /// # Errors
    /// A system without room for a thread.
    pub(super) fn spawn(name: &str, work: impl FnOnce(&Queue<T, N>) + Send + 'static) -> Result<Self> {
        let queue = Arc::new(Queue::default());
        let work = {
            let queue = queue.clone();
            move || work(&queue)
        };
        let thread = spawn(name, Role::Vital, None, work)?;
        Ok(Self { queue, thread })
    }

    /// Hands something over; `false` if there is no room.
    pub(super) fn send(&self, item: T) -> bool {
        self.queue.push(item)
    }

    /// Takes nothing more and waits until all is done, or until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        self.queue.close();
        wait::until(deadline, Duration::from_millis(5), || self.thread.is_finished());
    }
}

impl<T, const N: usize> Drop for Worker<T, N> {
    fn drop(&mut self) {
        self.queue.close();
    }
}
