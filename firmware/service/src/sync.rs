//! How threads meet: locks whose content is whole at any time, and bells that wake who waits.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

pub(crate) use resight_base::sync::lock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::thread::futex;

/// Locks a mutex that others hold for a moment only; `None` if it is not free within `wait`. A panic
/// hook may run on the very thread that holds it, and must not wait for itself.
pub(crate) fn lock_within<T>(mutex: &Mutex<T>, wait: Duration) -> Option<MutexGuard<'_, T>> {
    let deadline = Instant::now() + wait;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
}

/// Wakes the one thread that waits for it. Whoever rings takes no lock that the other could wait for,
/// and a ring that comes before the wait is not lost. What there is to do is found elsewhere, in
/// mailboxes that are looked at after each wait.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicU32);

impl Bell {
    /// Wakes who waits, or who waits next.
    pub(crate) fn ring(&self) {
        if self.0.swap(1, Ordering::SeqCst) == 0 {
            // It fails for addresses that are none, and this is one.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }

    /// Waits for a ring, or until `deadline`; without one for ever.
    pub(crate) fn wait(&self, deadline: Option<Instant>) {
        while self.0.swap(0, Ordering::SeqCst) == 0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            let timeout = left.map(timespec);
            // However it ends, the loop looks whether it rang or the time is over.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, 0, timeout.as_ref());
        }
    }
}

/// Asks a thread that waits for the kernel to end, once and for all.
#[derive(Debug)]
pub(crate) struct Stop(OwnedFd);

impl Stop {
    /// # Errors
    /// What the kernel says when there is no file descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Asks; whoever waits wakes, and whoever will wait does not.
    pub(crate) fn ask(&self) {
        // It fails only for a count that is full, which asks as well.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Waits at most `timeout`; whether it was asked.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        // However it ends, the events that it left say what there is.
        let _ = poll(&mut descriptors, Some(&timespec(timeout)));
        !descriptors[0].revents().is_empty()
    }

    /// Waits at most `timeout` for `other` to have something to read, or an error; whether it has.
    pub(crate) fn wait_or_for(&self, other: BorrowedFd<'_>, timeout: Duration) -> bool {
        let stop = self.0.as_fd();
        let mut descriptors =
            [PollFd::from_borrowed_fd(stop, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        let _ = poll(&mut descriptors, Some(&timespec(timeout)));
        !descriptors[1].revents().is_empty()
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_lock_that_this_thread_holds_is_not_waited_for() {
        let mutex = Mutex::new(1);
        let held = mutex.lock().unwrap();
        assert!(lock_within(&mutex, Duration::from_millis(5)).is_none());
        drop(held);
        assert_eq!(lock_within(&mutex, Duration::ZERO).map(|guard| *guard), Some(1));
    }

    #[test]
    fn a_ring_before_the_wait_is_not_lost_and_counts_once() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        bell.wait(None);
        let start = Instant::now();
        bell.wait(Some(start + Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20), "{:?}", start.elapsed());
    }

    #[test]
    fn a_wait_for_the_kernel_ends_when_it_is_asked_to() {
        let stop = Arc::new(Stop::new().unwrap());
        assert!(!stop.wait(Duration::ZERO));
        let (reader, writer) = io::pipe().unwrap();
        assert!(!stop.wait_or_for(reader.as_fd(), Duration::ZERO));
        rustix::io::write(&writer, b"1").unwrap();
        assert!(stop.wait_or_for(reader.as_fd(), Duration::from_hours(1)));
        let waits = thread::spawn({
            let stop = stop.clone();
            move || stop.wait(Duration::from_hours(1))
        });
        stop.ask();
        assert!(waits.join().unwrap());
        // For good, and beside anything else.
        assert!(stop.wait(Duration::from_hours(1)));
        drop(writer);
        assert!(stop.wait_or_for(reader.as_fd(), Duration::from_hours(1)));
    }

    #[test]
    fn whoever_waits_is_woken_each_time() {
        let (ping, pong) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let other = thread::spawn({
            let (ping, pong) = (ping.clone(), pong.clone());
            move || {
                (0..1000).for_each(|_| {
                    ping.wait(None);
                    pong.ring();
                });
            }
        });
        for _ in 0..1000 {
            ping.ring();
            pong.wait(None);
        }
        other.join().unwrap();
    }
}
