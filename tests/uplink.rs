//! An uplink that is too slow for the cameras: frames stay fresh, and cameras get equal shares.
//! `tests/faults/uplink.rs` has more cases.

use crate::support::shop::{Shop, equal};
use std::time::Duration;

#[test]
fn twenty_cameras_on_ten_megabits_are_fresh_and_get_the_same() {
    let cameras = equal(20, 3, 127_000);
    let shop = Shop {
        cameras: &cameras,
        uplink: 1_250_000,
        tls: true,
    };
    // One good round of three suffices for age and goodput: the uplink is a proxy in this process,
    // which loses what it could have carried whenever it has no CPU for more than 0.1 s.
    let fresh = (0..3).any(|_| {
        let measured = shop.measure(Duration::from_secs(25));
        eprintln!("{measured:?}, fairness {:.4}", measured.fairness());
        assert_eq!((measured.reconnects, measured.unknown), (0, 0));
        assert!(measured.p50 < Duration::from_secs(1), "{:?}", measured.p50);
        assert!(measured.fairness() > 0.95, "{:?}", measured.bytes);
        let [said] = measured.said.as_slice() else {
            panic!("not once: {:?}", measured.said);
        };
        assert!(
            said.contains("WARN  the uplink is too slow: it carries "),
            "{said}"
        );
        assert!(said.contains("; about 1 in "), "{said}");
        assert!(said.ends_with("; lower fps, quality or width"), "{said}");
        measured.p99 < Duration::from_millis(1300) && measured.goodput > 1_180_000.0
    });
    assert!(fresh);
}

#[test]
fn a_large_camera_takes_nothing_from_small_ones() {
    let mut cameras = equal(5, 3, 20_000);
    // It sends 1.2 MB/s, of which four fifths fit beside the others.
    cameras.push(("large".to_owned(), 5, 240_000));
    let measured = Shop {
        cameras: &cameras,
        uplink: 1_250_000,
        tls: false,
    }
    .measure(Duration::from_secs(20));
    eprintln!("{measured:?}");
    assert_eq!((measured.reconnects, measured.unknown), (0, 0));
    let (large, small) = measured.bytes.split_last().unwrap();
    let full = 3.0 * 20_000.0 * 20.0;
    assert!(small.iter().all(|bytes| *bytes > 0.9 * full), "{small:?}");
    assert!(*large > 10.0 * full, "{large}");
}
