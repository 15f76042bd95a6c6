//! Runs a model in every order.

use std::sync::atomic::{AtomicUsize, Ordering};

/// All orders, or those with up to `preemptions` (a thread is stopped although it could run).
pub(super) fn try_all(
    name: &str,
    preemptions: Option<usize>,
    model: impl Fn() + Send + Sync + 'static,
) {
    static ORDERS: AtomicUsize = AtomicUsize::new(0);
    ORDERS.store(0, Ordering::Relaxed);
    print!("{name}: ");
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        ORDERS.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", ORDERS.load(Ordering::Relaxed));
}
