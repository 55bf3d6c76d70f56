//! Waiting for what says nothing when it happens.

use std::thread;
use std::time::{Duration, Instant};

/// Looks at `condition` every `interval` until it holds, which is `true`, or until `deadline`.
/// It is looked at once even if the deadline has passed.
pub fn until(deadline: Instant, interval: Duration, mut condition: impl FnMut() -> bool) -> bool {
    loop {
        if condition() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        thread::sleep(left.min(interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_condition_or_at_the_deadline() {
        let far = Instant::now() + Duration::from_hours(1);
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        assert!(until(far, Duration::from_millis(1), third));
        assert_eq!(looks, 3);
        let deadline = Instant::now() + Duration::from_millis(5);
        assert!(!until(deadline, Duration::from_hours(1), || false));
        assert!(Instant::now() >= deadline);
        // Too late to wait, but not to look.
        assert!(until(deadline, Duration::ZERO, || true));
    }
}
