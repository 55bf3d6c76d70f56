//! The rate of a file or a folder.

use std::time::{Duration, Instant};

/// Keeps a rate.
pub(super) struct Pace {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>) -> Self {
        Self { interval: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)), due: None }
    }

    /// Waits for the next frame's time; `false` if that is not within `wait`.
    pub(super) fn reached(&mut self, wait: Duration) -> bool {
        let Some(interval) = self.interval else { return true };
        let now = Instant::now();
        let due = self.due.unwrap_or(now);
        let left = due.saturating_duration_since(now);
        std::thread::sleep(left.min(wait));
        if left > wait {
            return false;
        }
        // Late by more than one frame: do not try to catch up.
        self.due = Some((due + interval).max(now));
        true
    }
}
