//! A thread with a bounded queue.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::run::lock;

/// A thread that works on what it is sent. Nothing here waits for it but [`close`](Self::close).
pub(super) struct Worker<T> {
    sender: Mutex<Option<SyncSender<T>>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the thread; up to `capacity` things may wait for it.
    ///
    /// # Errors
    /// A system without room for a thread.
    pub(super) fn spawn(
        name: &str,
        capacity: usize,
        work: impl FnOnce(&Receiver<T>) + Send + 'static,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(capacity);
        let thread = Builder::new()
            .name(name.into())
            .spawn(move || work(&receiver))
            .with_context(|| format!("cannot start thread {name}"))?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread })
    }

    /// Hands something over; `false` if there is no room.
    pub(super) fn send(&self, item: T) -> bool {
        lock(&self.sender).as_ref().is_some_and(|sender| sender.try_send(item).is_ok())
    }

    /// Takes nothing more and waits until all is done, or until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        lock(&self.sender).take();
        while !self.thread.is_finished() && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
    }
}
