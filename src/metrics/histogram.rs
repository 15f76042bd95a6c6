//! A histogram: counts values in fixed buckets.

use super::counter::Counter;
use std::time::Duration;

/// Buckets of a histogram, the one without an upper bound included.
pub const BUCKETS: usize = 17;

/// Upper bounds of latencies in microseconds, 0.1 ms to 10 s: three a decade, as on a preferred
/// number scale.
pub const LATENCY_BOUNDS: [u64; BUCKETS - 1] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Upper bounds of frame sizes in bytes, 1 KiB to 32 MiB, each twice the one before.
pub const SIZE_BOUNDS: [u64; BUCKETS - 1] = {
    let mut bounds = [1024; BUCKETS - 1];
    let mut n = 1;
    while n < bounds.len() {
        bounds[n] = bounds[n - 1] * 2;
        n += 1;
    }
    bounds
};

/// Counts values by size. One thread at a time writes, any thread reads: no lock, no allocation.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; BUCKETS - 1],
    counts: [Counter; BUCKETS],
    sum: Counter,
}

impl Histogram {
    /// An empty one with these upper bounds, which ascend.
    pub fn new(bounds: &'static [u64; BUCKETS - 1]) -> Self {
        Self {
            bounds,
            counts: Default::default(),
            sum: Counter::default(),
        }
    }

    /// Takes a value in; only the histogram's one writer may.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.increment();
        }
        self.sum.add(value);
    }

    /// Takes a latency in, as microseconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX >> 1));
    }

    /// The counts now.
    pub fn read(&self) -> Distribution {
        Distribution {
            bounds: self.bounds,
            counts: std::array::from_fn(|n| self.counts.get(n).map_or(0, Counter::get)),
            sum: self.sum.get(),
        }
    }
}

/// The counts of a [`Histogram`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Upper bounds of all buckets but the last, which has none.
    pub bounds: &'static [u64; BUCKETS - 1],
    /// Values by bucket.
    pub counts: [u64; BUCKETS],
    /// Sum of the values.
    pub sum: u64,
}

impl Distribution {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut new = self.clone();
        for (count, before) in new.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        new.sum = new.sum.saturating_sub(earlier.sum);
        new
    }

    /// The value below which the share `q` of all lies, as if values were spread evenly within a
    /// bucket; in the last bucket, its lower bound. `None` without values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let wanted = self.count() as f64 * q;
        let (mut below, mut lower) = (0.0, 0);
        for (n, count) in self.counts.iter().enumerate() {
            let count = *count as f64;
            let upper = self.bounds.get(n).copied();
            if count > 0.0 && below + count >= wanted {
                let width = (upper.unwrap_or(lower) - lower) as f64;
                return Some(lower as f64 + width * ((wanted - below) / count));
            }
            below += count;
            lower = upper.unwrap_or(lower);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_is_not_below_it() {
        let histogram = Histogram::new(&LATENCY_BOUNDS);
        for value in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(value);
        }
        let now = histogram.read();
        assert_eq!(now.counts[..2], [2, 1]);
        assert_eq!(now.counts[15..], [1, 1]);
        assert_eq!((now.count(), now.sum), (5, 20_000_202));
    }

    #[test]
    fn a_quantile_is_found_within_its_bucket() {
        let histogram = Histogram::new(&LATENCY_BOUNDS);
        assert_eq!(histogram.read().quantile(0.5), None);
        let before = histogram.read();
        for _ in 0..100 {
            histogram.observe_duration(Duration::from_micros(700));
        }
        let now = histogram.read().since(&before);
        assert_eq!(now.quantile(0.5), Some(750.0));
        assert_eq!(now.quantile(1.0), Some(1000.0));
        histogram.observe_duration(Duration::from_secs(100));
        assert_eq!(histogram.read().quantile(1.0), Some(10_000_000.0));
    }

    #[test]
    fn bounds_ascend_and_reach_from_end_to_end() {
        assert!(LATENCY_BOUNDS.is_sorted() && SIZE_BOUNDS.is_sorted());
        assert_eq!((LATENCY_BOUNDS[0], LATENCY_BOUNDS[15]), (100, 10_000_000));
        assert_eq!((SIZE_BOUNDS[0], SIZE_BOUNDS[15]), (1024, 32 << 20));
    }
}
