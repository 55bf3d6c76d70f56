//! What the thread of the outputs waits for: a counter that anybody raises, and descriptors.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// How often outputs are looked after where the kernel has nothing to wait with.
const FALLBACK: Duration = Duration::from_millis(100);

/// What of all that wakes is looked at in one wait; the rest wakes again.
const MOST: usize = 16;

/// See the module. `None` on a system that has no more descriptors: then time alone wakes.
pub(crate) struct Wake(Option<Descriptors>);

struct Descriptors {
    counter: OwnedFd,
    all: OwnedFd,
}

impl Descriptors {
    fn new() -> rustix::io::Result<Self> {
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&all, &counter, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self { counter, all })
    }
}

impl Default for Wake {
    fn default() -> Self {
        let made = Descriptors::new();
        Self(made.inspect_err(|error| log::warn!("outputs are looked after by time: {error}")).ok())
    }
}

impl Wake {
    /// Wakes the thread, now or when it waits next.
    pub(crate) fn ring(&self) {
        if let Some(descriptors) = &self.0 {
            // A counter that is full wakes all the same.
            let _ = rustix::io::write(&descriptors.counter, &1_u64.to_ne_bytes());
        }
    }

    /// Wakes it also when `descriptor` can be read anew or be written again, until that is closed.
    pub(crate) fn watch(&self, descriptor: impl AsFd) {
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Some(descriptors) = &self.0
            && let Err(error) = epoll::add(&descriptors.all, descriptor, epoll::EventData::new_u64(1), flags)
        {
            log::warn!("an output is looked after by its deadlines alone: {error}");
        }
    }

    /// Waits for any of these, or until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let Some(Descriptors { counter, all }) = &self.0 else {
            std::thread::sleep(left.map_or(FALLBACK, |left| left.min(FALLBACK)));
            return;
        };
        // Rounded up, so that it is not too early and in vain.
        let left = left.map(|left| left + Duration::from_micros(999));
        let timeout =
            left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        // Interrupted or not, everything is looked at afterwards.
        let _ = epoll::wait(all, &mut [none; MOST], timeout.as_ref());
        let _ = rustix::io::read(counter, &mut [0; 8]);
    }
}
