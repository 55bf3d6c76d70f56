//! How often wrong tokens and passwords may be tried.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::places::owner;

/// Wrong ones of an address in [`WINDOW`]; then nothing of it is looked at until that is over.
const MOST: u32 = 10;

const WINDOW: Duration = Duration::from_mins(1);

/// Passwords of all that are compared in [`WINDOW`]: each costs a tenth of a second or so.
const MOST_PASSWORDS: u32 = 60;

/// Addresses that are remembered; the oldest is forgotten first.
const KEPT: usize = 1024;

/// So many since then.
#[derive(Debug, Clone, Copy)]
struct Count {
    count: u32,
    begun: Instant,
}

impl Count {
    /// What is left of the time that this counts.
    fn left(&self, now: Instant) -> Option<Duration> {
        (self.begun + WINDOW).checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

/// Who was wrong of late.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    wrong: Vec<(IpAddr, Count)>,
    passwords: Option<Count>,
    /// Of what was shown last and was wrong, by address; it says nothing of the secret.
    last: Vec<(IpAddr, u64)>,
    hasher: RandomState,
}

impl Attempts {
    /// For how long nothing of `address` is looked at; `None` if it may try.
    pub(super) fn barred(&mut self, address: IpAddr, now: Instant) -> Option<Duration> {
        self.wrong.retain(|(_, count)| count.left(now).is_some());
        let count = self.wrong.iter().find(|(other, _)| *other == owner(address))?.1;
        count.left(now).filter(|_| count.count >= MOST)
    }

    /// `address` was wrong by showing this. The same again is no other guess: a monitor with an old
    /// token must not keep out those who share its address.
    pub(super) fn was_wrong(&mut self, address: IpAddr, shown: &[u8], now: Instant) {
        let (owner, digest) = (owner(address), self.hasher.hash_one(shown));
        let before = self.last.iter().position(|(other, _)| *other == owner).map(|at| self.last.remove(at));
        if before.is_none() && self.last.len() == KEPT {
            self.last.remove(0);
        }
        self.last.push((owner, digest));
        if before == Some((owner, digest)) {
            return;
        }
        match self.wrong.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, count)) if count.left(now).is_some() => count.count += 1,
            Some((_, count)) => *count = Count { count: 1, begun: now },
            None => {
                if self.wrong.len() == KEPT {
                    self.wrong.remove(0);
                }
                self.wrong.push((owner, Count { count: 1, begun: now }));
            }
        }
    }

    /// `address` was right, so whoever it is knows the secret.
    pub(super) fn was_right(&mut self, address: IpAddr) {
        let owner = owner(address);
        self.wrong.retain(|(other, _)| *other != owner);
    }

    /// Takes the right to compare one more password; or gives how long to wait for it.
    pub(super) fn take_password(&mut self, now: Instant) -> Result<(), Duration> {
        let fresh = Count { count: 0, begun: now };
        let count = self.passwords.get_or_insert(fresh);
        let Some(left) = count.left(now) else {
            *count = Count { count: 1, ..fresh };
            return Ok(());
        };
        if count.count >= MOST_PASSWORDS {
            return Err(left);
        }
        count.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_wrong_too_often_waits_and_others_do_not() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let [one, other]: [IpAddr; 2] = ["192.168.1.7", "192.168.1.8"].map(|text| text.parse().unwrap());
        for second in 0..u64::from(MOST) {
            let now = start + Duration::from_secs(second);
            assert_eq!(attempts.barred(one, now), None, "{second}");
            attempts.was_wrong(one, &[second as u8], now);
        }
        let now = start + Duration::from_secs(20);
        assert_eq!(attempts.barred(one, now), Some(Duration::from_secs(40)));
        assert_eq!(
            attempts.barred("::ffff:192.168.1.7".parse().unwrap(), now),
            Some(Duration::from_secs(40))
        );
        assert_eq!(attempts.barred(other, now), None);
        assert_eq!(attempts.barred(one, start + WINDOW), None);
        assert!(attempts.wrong.is_empty());
    }

    #[test]
    fn who_is_right_has_all_attempts_again() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let address = "2001:db8::1".parse().unwrap();
        (1..MOST).for_each(|guess| attempts.was_wrong(address, &guess.to_le_bytes(), now));
        attempts.was_right("2001:db8::2".parse().unwrap());
        attempts.was_wrong(address, b"one more", now);
        // The same again is no other guess.
        (0..MOST).for_each(|_| attempts.was_wrong("2001:db9::3".parse().unwrap(), b"old", now));
        assert_eq!(attempts.barred("2001:db9::3".parse().unwrap(), now), None);
        assert_eq!(attempts.barred(address, now), None);
    }

    #[test]
    fn passwords_and_addresses_are_limited() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        assert!((0..MOST_PASSWORDS).all(|_| attempts.take_password(start).is_ok()));
        let later = start + Duration::from_secs(10);
        assert_eq!(attempts.take_password(later), Err(Duration::from_secs(50)));
        assert_eq!(attempts.take_password(start + WINDOW), Ok(()));
        for host in 0..2 * KEPT as u32 {
            attempts.was_wrong(std::net::Ipv4Addr::from_bits(host).into(), b"", start);
        }
        assert_eq!((attempts.wrong.len(), attempts.last.len()), (KEPT, KEPT));
    }
}
