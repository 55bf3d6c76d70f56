//! How many connections there may be, and of whom: strangers must not keep out this machine.

use std::net::{IpAddr, Ipv6Addr};

use crate::live::VIEWERS;

/// Connections at the same time: all viewers with their pictures, and others.
pub(super) const CONNECTIONS: usize = 4 * VIEWERS as usize;

/// Of them, those that only this machine may take: for `resightd health`, which judges an update.
const OWN: usize = CONNECTIONS / 4;

/// Of one address elsewhere.
const EACH: usize = CONNECTIONS / 2;

/// Who has connections now, and how many.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(IpAddr, usize)>);

/// Whom an address stands for: a network of IPv6 gives everybody as many addresses as they like.
pub(super) fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            Ipv6Addr::from(segments).into()
        }
        address => address,
    }
}

impl Places {
    /// One more connection of `address`, if there is a place for it.
    pub(super) fn take(&mut self, address: IpAddr) -> bool {
        let owner = owner(address);
        let count = |of: &dyn Fn(&IpAddr) -> bool| -> usize {
            self.0.iter().filter(|(other, _)| of(other)).map(|(_, count)| count).sum()
        };
        let free = if owner.is_loopback() {
            count(&|_| true) < CONNECTIONS
        } else {
            count(&|other| !other.is_loopback()) < CONNECTIONS - OWN
                && count(&|other| *other == owner) < EACH
                && count(&|_| true) < CONNECTIONS
        };
        if free {
            match self.0.iter_mut().find(|(other, _)| *other == owner) {
                Some((_, count)) => *count += 1,
                None => self.0.push((owner, 1)),
            }
        }
        free
    }

    /// A connection of `address` has ended.
    pub(super) fn give_back(&mut self, address: IpAddr) {
        let owner = owner(address);
        if let Some((_, count)) = self.0.iter_mut().find(|(other, _)| *other == owner) {
            *count -= 1;
        }
        self.0.retain(|(_, count)| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(places: &mut Places, address: &str, count: usize) -> usize {
        (0..count).filter(|_| places.take(address.parse().unwrap())).count()
    }

    #[test]
    fn strangers_leave_places_for_each_other_and_for_this_machine() {
        let mut places = Places::default();
        assert_eq!(taken(&mut places, "192.168.1.7", 100), EACH);
        assert_eq!(taken(&mut places, "::ffff:192.168.1.7", 1), 0, "the same one");
        assert_eq!(taken(&mut places, "192.168.1.8", 100), CONNECTIONS - OWN - EACH);
        assert_eq!(taken(&mut places, "10.0.0.1", 1), 0);
        assert_eq!(taken(&mut places, "127.0.0.1", 100), OWN);
        assert_eq!(taken(&mut places, "::1", 1), 0);
        places.give_back("192.168.1.7".parse().unwrap());
        assert_eq!(taken(&mut places, "10.0.0.1", 2), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_stranger() {
        let mut places = Places::default();
        let addresses = (0..100).map(|host| format!("2001:db8:1:2::{host:x}"));
        let count: usize = addresses.map(|address| taken(&mut places, &address, 1)).sum();
        assert_eq!(count, EACH);
        assert_eq!(taken(&mut places, "2001:db8:1:3::1", 1), 1);
        for _ in 0..EACH {
            places.give_back("2001:db8:1:2::ffff".parse().unwrap());
        }
        assert_eq!(places.0.len(), 1, "{places:?}");
    }

    #[test]
    fn this_machine_may_have_all() {
        assert_eq!(taken(&mut Places::default(), "127.0.0.1", 100), CONNECTIONS);
    }
}
