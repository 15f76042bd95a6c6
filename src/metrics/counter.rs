//! A number that one thread writes and others read.

use super::sync::AtomicU64;
use std::sync::atomic::Ordering;

/// Counts up. One thread at a time writes, any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the counter's one writer may.
    pub fn add(&self, n: u64) {
        // Not fetch_add: with a single writer no locked instruction is needed. Release, so that
        // a thread that reads this count also sees the counts made before it.
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What is so now: the last value that its one writer set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it; only the gauge's one writer may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
