//! As much of `parking_lot`, crossbeam and std as the compiled source uses, from loom's types.

#[allow(unused_imports)]
pub(super) use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, MutexGuard, Notify};

#[derive(Debug)]
pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// A parked thread, and how it is woken: at once if it was unparked before.
#[derive(Debug)]
pub(super) struct Parker(Unparker);

#[derive(Debug, Clone)]
pub(super) struct Unparker(Arc<Notify>);

impl Parker {
    pub(super) fn new() -> Self {
        Self(Unparker(Arc::new(Notify::new())))
    }

    pub(super) fn park(&self) {
        self.0.0.wait();
    }

    pub(super) fn unparker(&self) -> &Unparker {
        &self.0
    }
}

impl Unparker {
    pub(super) fn unpark(&self) {
        self.0.notify();
    }
}
