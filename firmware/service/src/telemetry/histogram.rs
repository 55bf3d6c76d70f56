//! Times in buckets, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts that each doubling is divided into: a bound is at most 1/8 above the value.
const PARTS: u64 = 8;

/// Buckets: 8 of one microsecond, then 8 for each doubling up to 2^40 microseconds.
const BUCKETS: usize = 8 * 38;

/// Times that several threads add and others read: each number is whole, all of them together are
/// those of about the same moment.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Of all times, in nanoseconds.
    sum: AtomicU64,
    /// In nanoseconds.
    maximum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            maximum: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Adds a time.
    pub(crate) fn add(&self, time: Duration) {
        let nanoseconds = time.as_nanos() as u64;
        self.buckets[bucket(time.as_micros() as u64)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanoseconds, Ordering::Relaxed);
        self.maximum.fetch_max(nanoseconds, Ordering::Relaxed);
    }

    /// What was added so far.
    pub(crate) fn read(&self) -> Times {
        let mut buckets = [0; BUCKETS];
        for (bucket, counted) in buckets.iter_mut().zip(&self.buckets) {
            *bucket = counted.load(Ordering::Relaxed);
        }
        Times {
            count: buckets.iter().sum(),
            buckets,
            sum: Duration::from_nanos(self.sum.load(Ordering::Relaxed)),
            maximum: Duration::from_nanos(self.maximum.load(Ordering::Relaxed)),
        }
    }
}

/// What a histogram held at some time.
#[derive(Debug)]
pub(crate) struct Times {
    buckets: [u64; BUCKETS],
    pub(crate) count: u64,
    pub(crate) sum: Duration,
    pub(crate) maximum: Duration,
}

impl Times {
    /// Those of several histograms together.
    pub(crate) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let none = Self { buckets: [0; BUCKETS], count: 0, sum: Duration::ZERO, maximum: Duration::ZERO };
        histograms.map(Histogram::read).fold(none, |mut all, more| {
            all.buckets.iter_mut().zip(more.buckets).for_each(|(bucket, count)| *bucket += count);
            all.count += more.count;
            all.sum += more.sum;
            all.maximum = all.maximum.max(more.maximum);
            all
        })
    }

    /// A time that `share` of all are not above; at most 1/8 too large, the maximum exact.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return Duration::from_micros(upper(index)).min(self.maximum);
            }
        }
        self.maximum
    }
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let doubling = value.ilog2() - PARTS.ilog2();
    let index = PARTS * u64::from(doubling) + (value >> doubling);
    (index as usize).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < PARTS {
        return index;
    }
    let doubling = index / PARTS - 1;
    ((index % PARTS + PARTS + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(upper(index)), index);
            assert_eq!(bucket(upper(index) + 1), index + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn quantiles_are_near_the_sorted_ones(mut times in prop::collection::vec(0..10_000_000u64, 1..300)) {
            let histogram = Histogram::default();
            for time in &times {
                histogram.add(Duration::from_micros(*time));
            }
            times.sort_unstable();
            let read = histogram.read();
            prop_assert_eq!(read.count, times.len() as u64);
            prop_assert_eq!(read.sum, Duration::from_micros(times.iter().sum()));
            for share in [0.5, 0.95, 0.99, 1.0] {
                let exact = times[(share * times.len() as f64).ceil() as usize - 1];
                let found = read.quantile(share).as_micros() as u64;
                prop_assert!(found >= exact && found <= exact + exact / 8 + 1, "{share}: {found}, {exact}");
            }
        }
    }
}
