//! An uplink that cannot carry what the cameras offer: not a fault that is over, but one to live
//! with.
//!
//! These measure for long and want the machine for themselves, so they take turns.

use crate::lab::{as_shown, lost};
use crate::support::shop::{Measured, Open, Shop, equal};
use crate::table::Row;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static ALONE: Mutex<()> = Mutex::new(());

const LASTS: Duration = Duration::from_secs(40);
const FRAME: u32 = 127_000;
const LARGE: u32 = 258_000;
/// 10 Mbit/s.
const MEGABITS: u32 = 1_250_000;

/// What is asked of every one. One of three tries is enough for age and goodput: the uplink is a
/// proxy in this process, which loses what it could have carried whenever it has no CPU for more
/// than 0.1 s.
#[track_caller]
fn lives(fault: &'static str, shop: &Shop<'_>, lasts: Duration, oldest: Duration) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let at = Location::caller();
    for tries in 1.. {
        let open = shop.open();
        let rss = open.rss_kb();
        let measured = open.measure(lasts);
        let fairness = measured.fairness();
        eprintln!("{fault}: {measured:?}, fairness {fairness:.4}");
        assert_eq!((measured.reconnects, measured.unknown), (0, 0));
        assert!(fairness > 0.95, "{:?}", measured.bytes);
        let mean = measured.bytes.iter().sum::<f64>() / measured.bytes.len() as f64;
        assert!(measured.bytes.iter().all(|bytes| *bytes > mean / 2.0));
        let good = measured.goodput > 0.944 * f64::from(shop.uplink);
        if good && measured.p99 < oldest {
            row(fault, at, open, &measured, rss, Duration::ZERO);
            return;
        }
        open.close();
        assert!(tries < 3, "{:?}, {:.0} B/s", measured.p99, measured.goodput);
    }
}

fn row(
    fault: &str,
    at: &Location<'_>,
    open: Open<'_>,
    measured: &Measured,
    rss: u64,
    recovery: Duration,
) {
    let after = open.rss_kb();
    let said = measured.said.first().map(|line| as_shown(line));
    let p99_ms = measured.p99.as_secs_f64() * 1000.0;
    Row {
        file: at.file().to_owned(),
        line: at.line(),
        fault: fault.to_owned(),
        log: said.into_iter().collect(),
        lost: lost(&open.close()),
        recovery: recovery.as_secs_f64(),
        rss_mb: [rss, after].map(|kb| kb as f64 / 1024.0),
        p99_ms: [p99_ms; 2],
    }
    .write();
}

#[track_caller]
fn shop(fault: &'static str, count: usize, bytes: u32, uplink: u32, tls: bool) {
    let cameras = equal(count, 3, bytes);
    let shop = Shop {
        cameras: &cameras,
        uplink,
        tls,
    };
    let own = Duration::from_secs_f64(f64::from(bytes) / f64::from(uplink));
    // max_age, one round trip, and what is over half of it of a frame's own time.
    let oldest = Duration::from_millis(1300) + own.saturating_sub(Duration::from_millis(500));
    lives(fault, &shop, LASTS, oldest);
}

#[test]
fn slow_uplink_of_six_cameras() {
    shop(
        "6 cameras of 127 KB on 1.25 MB/s",
        6,
        FRAME,
        MEGABITS,
        false,
    );
}

#[test]
fn slow_uplink_of_six_cameras_with_tls() {
    shop("the same with TLS", 6, FRAME, MEGABITS, true);
}

#[test]
fn slow_uplink_of_twenty_cameras() {
    shop(
        "20 cameras of 127 KB on 1.25 MB/s",
        20,
        FRAME,
        MEGABITS,
        false,
    );
}

#[test]
fn slow_uplink_of_twenty_cameras_with_tls() {
    shop("the same with TLS", 20, FRAME, MEGABITS, true);
}

#[test]
fn slow_uplink_of_twenty_large_cameras_with_tls() {
    shop(
        "20 cameras of 258 KB on 1.25 MB/s, with TLS",
        20,
        LARGE,
        MEGABITS,
        true,
    );
}

#[test]
fn slow_uplink_of_twenty_cameras_on_a_quarter() {
    shop(
        "20 cameras of 127 KB on 300 kB/s",
        20,
        FRAME,
        300_000,
        false,
    );
}

#[test]
fn slow_uplink_of_twenty_cameras_on_a_quarter_with_tls() {
    shop("the same with TLS", 20, FRAME, 300_000, true);
}

#[test]
fn slow_uplink_that_falls_and_returns() {
    falls_and_returns("10 MB/s falls to 0.5 MB/s for 30 s", false);
}

#[test]
fn slow_uplink_that_falls_and_returns_with_tls() {
    falls_and_returns("the same with TLS", true);
}

#[track_caller]
fn falls_and_returns(fault: &'static str, tls: bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let at = Location::caller();
    let cameras = equal(20, 3, FRAME);
    let offered = 20.0 * 3.0 * f64::from(FRAME);
    let shop = Shop {
        cameras: &cameras,
        uplink: 10_000_000,
        tls,
    };
    let open = shop.open();
    let rss = open.rss_kb();
    let before = open.measure(Duration::from_secs(10));
    open.proxy.uplink(500_000);
    // What was on its way when it fell is old.
    open.measure(Duration::from_secs(5));
    let low = open.measure(Duration::from_secs(25));
    open.proxy.uplink(10_000_000);
    let returned = Instant::now();
    let recovery = loop {
        let second = open.measure(Duration::from_secs(1));
        if second.goodput > 0.95 * offered {
            break returned.elapsed();
        }
        assert!(returned.elapsed() < Duration::from_secs(15), "{second:?}");
    };
    let after = open.measure(Duration::from_secs(10));
    eprintln!("{fault}: {before:?}, {low:?}, back after {recovery:?}, {after:?}");
    assert_eq!((after.reconnects, after.unknown), (0, 0));
    assert!(low.p99 < Duration::from_millis(1300), "{:?}", low.p99);
    assert!(low.goodput > 0.944 * 500_000.0, "{}", low.goodput);
    assert!(low.fairness() > 0.95, "{:?}", low.bytes);
    assert!(after.goodput > 0.95 * offered, "{}", after.goodput);
    row(fault, at, open, &low, rss, recovery);
}

/// By name: the whole of what was asked for, once.
#[test]
#[ignore = "takes five minutes"]
fn slow_uplink_for_five_minutes() {
    five_minutes("20 cameras of 127 KB on 1.25 MB/s for 5 minutes", FRAME);
}

#[test]
#[ignore = "takes five minutes"]
fn slow_uplink_of_large_frames_for_five_minutes() {
    five_minutes("20 cameras of 258 KB on 1.25 MB/s for 5 minutes", LARGE);
}

fn five_minutes(fault: &'static str, bytes: u32) {
    let cameras = equal(20, 3, bytes);
    let shop = Shop {
        cameras: &cameras,
        uplink: MEGABITS,
        tls: true,
    };
    let (lasts, oldest) = (Duration::from_secs(300), Duration::from_millis(1300));
    lives(fault, &shop, lasts, oldest);
}
