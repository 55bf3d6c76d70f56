//! How threads meet: locks whose content is whole at any time, and bells that wake who waits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

pub(crate) use resight_base::sync::lock;
use rustix::event::Timespec;
use rustix::thread::futex;

/// Locks a mutex that others hold for a moment only; `None` if it is not free within `wait`. A panic
/// hook may run on the very thread that holds it, and must not wait for itself.
#[cfg_attr(not(any(target_arch = "aarch64", target_arch = "arm")), allow(dead_code))]
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
            let timeout = left
                .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
            // However it ends, the loop looks whether it rang or the time is over.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, 0, timeout.as_ref());
        }
    }
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
