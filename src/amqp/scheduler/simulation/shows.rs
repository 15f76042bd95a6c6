//! The tests: what must hold for any uplink, and for special ones.

use super::*;

/// Of every one: frames are fresh, the uplink is full, and cameras get the same, without ups and
/// downs.
#[test]
fn on_any_uplink_frames_are_fresh_the_uplink_is_full_and_cameras_get_the_same() {
    let mut failed = vec![];
    for rate in [50e3, 300e3, 1.25e6, 10e6, 1e9] {
        for count in [1, 20, 200] {
            for round_trip in [MS / 5, 40 * MS, 800 * MS] {
                for (fps, bytes) in [(4.0, 5_000), (3.0, 127_000), (5.0, 500_000)] {
                    // That many would take minutes to play.
                    let fps = if count == 200 { 1.0 } else { fps };
                    check(rate, count, round_trip, fps, bytes, &mut failed);
                }
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn check(
    rate: f64,
    count: usize,
    round_trip: Duration,
    fps: f64,
    bytes: u64,
    failed: &mut Vec<String>,
) {
    let one = bytes as f64 / rate;
    let offered = (count as f64) * fps * bytes as f64;
    // As long as it takes for each camera to get some turns.
    let warm_up = 15.0;
    // And 60 of them, but not for longer than the test may take.
    let end = (60.0 * count as f64 * one).clamp(10.0, 4000.0);
    let end = warm_up
        + end
            .min(24_000.0 / (count as f64 * fps))
            .max(40.0)
            .max(100.0 * round_trip.as_secs_f64());
    let seen = run(
        &Uplink::new(rate, round_trip),
        &vec![(fps, bytes); count],
        warm_up,
        end,
    );
    let most = MAX_AGE + round_trip + Duration::from_secs_f64(one);
    let (age, goodput, fairness) = (seen.p99(), seen.goodput(), seen.fairness());
    // A lone camera's own window has two frames in flight as long as its queue stops it from
    // growing.
    let windows = count as f64 * 2.0 * bytes as f64 / (round_trip.as_secs_f64() + one);
    let asked = offered.min(rate).min(windows);
    let name = format!("{rate:e} B/s, {count} x {bytes} B, {round_trip:?}");
    if age > most {
        failed.push(format!("{name}: age {age:?} > {most:?}"));
    }
    // A tenth of a frame more or less at either end.
    if seen.ages.len() > 30 && goodput < 0.95 * asked {
        failed.push(format!("{name}: goodput {:.3}", goodput / asked));
    }
    // Twenty frames' time, for one more or less in each; and the round trip shows once in ten
    // seconds.
    let span = (20.0 * one).max(10.0);
    let leanest = seen.leanest(span, bytes);
    if asked == rate && leanest < 0.8 {
        failed.push(format!(
            "{name}: oscillates, {leanest:.3} of the mean in {span:.0} s"
        ));
    }
    let mean = goodput * seen.seconds / count as f64;
    let turns = mean / bytes as f64;
    let (least, most) = (seen.bytes.iter().min(), seen.bytes.iter().max());
    let apart = (most.unwrap_or(&0) - least.unwrap_or(&0)) / bytes;
    if turns <= 20.0 && apart > 2 {
        failed.push(format!("{name}: {apart} frames apart"));
    }
    if turns > 20.0 && fairness < 0.95 {
        failed.push(format!("{name}: fairness {fairness:.3}"));
    }
    if turns > 20.0 && seen.bytes.iter().any(|got| (*got as f64) < mean / 2.0) {
        failed.push(format!("{name}: a camera is below half of its share"));
    }
}

#[test]
fn a_step_down_makes_old_frames_for_a_moment_and_a_step_up_is_used() {
    let mut uplink = Uplink::new(10e6, 40 * MS);
    uplink.rates = vec![(0.0, 10e6), (20.0, 0.5e6), (60.0, 10e6)];
    let seen = run(&uplink, &[(3.0, 127_000); 20], 10.0, 80.0);
    let oldest = |from: f64, to: f64| {
        let ages = seen.ages.iter().filter(|it| from < it.0 && it.0 < to);
        ages.map(|it| it.1).max().unwrap()
    };
    assert!(oldest(10.0, 20.0) < 100 * MS, "{:?}", oldest(10.0, 20.0));
    assert!(oldest(20.0, 25.0) < 4 * SECOND, "{:?}", oldest(20.0, 25.0));
    assert!(oldest(25.0, 60.0) < 1300 * MS, "{:?}", oldest(25.0, 60.0));
    assert!(oldest(63.0, 80.0) < 100 * MS, "{:?}", oldest(63.0, 80.0));
    let carried = |from: f64, to: f64| {
        let frames = seen.ages.iter().filter(|it| from < it.0 && it.0 < to);
        frames.count() as f64 * 127_000.0 / (to - from)
    };
    assert!(
        carried(22.0, 60.0) > 0.95 * 0.5e6,
        "{}",
        carried(22.0, 60.0)
    );
    assert!(
        carried(63.0, 80.0) > 0.95 * 7.62e6,
        "{}",
        carried(63.0, 80.0)
    );
}

#[test]
fn bursts_of_loss_neither_starve_the_uplink_nor_fill_it() {
    let mut uplink = Uplink::new(1.25e6, 40 * MS);
    uplink.bursts = Some((5.0, 0.25));
    let seen = run(&uplink, &[(3.0, 127_000); 20], 15.0, 75.0);
    assert!(seen.p99() < 1400 * MS, "{:?}", seen.p99());
    assert!(seen.goodput() > 0.95 * 0.95 * 1.25e6, "{}", seen.goodput());
    assert!(seen.fairness() > 0.95, "{}", seen.fairness());
}

#[test]
fn small_cameras_get_all_that_they_offer_and_large_ones_the_same() {
    let cameras = [
        (15.0, 240_000),
        (5.0, 120_000),
        (3.0, 20_000),
        (3.0, 20_000),
    ];
    let seen = run(&Uplink::new(1.25e6, 40 * MS), &cameras, 15.0, 115.0);
    let [one, other, small @ ..] = seen.bytes.as_slice() else {
        panic!("four cameras")
    };
    assert!(small.iter().all(|it| *it >= 20_000 * 285), "{small:?}");
    let ratio = *one as f64 / *other as f64;
    assert!((0.9..2.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_broker_that_is_slow_to_confirm_is_no_slow_uplink() {
    let mut uplink = Uplink::new(1e9, MS);
    uplink.broker = 700 * MS;
    let seen = run(&uplink, &[(15.0, 25_000); 20], 15.0, 35.0);
    let offered = 20.0 * 15.0 * 25_000.0;
    assert!(seen.goodput() > 0.98 * offered, "{}", seen.goodput());
}

#[test]
fn a_machine_that_hears_confirms_late_makes_no_frame_old() {
    for (every, pause) in [(0.7, 0.1), (1.7, 0.3), (3.3, 0.5)] {
        for bytes in [127_000, 258_000] {
            let mut uplink = Uplink::new(1.25e6, 40 * MS);
            uplink.deaf = Some((every, pause));
            let seen = run(&uplink, &[(3.0, bytes); 20], 15.0, 135.0);
            let name = format!("{pause} s deaf every {every} s, {bytes} B");
            assert!(seen.p99() < MAX_AGE, "{name}: {:?}", seen.p99());
            assert!(seen.goodput() > 0.95 * 1.25e6, "{name}: {}", seen.goodput());
            assert!(seen.fairness() > 0.95, "{name}: {}", seen.fairness());
        }
    }
}

#[test]
fn a_frame_goes_only_if_its_last_byte_is_in_time() {
    // One of these takes 0.2 s, and when its turn comes it may have waited for one second.
    let seen = run(
        &Uplink::new(1.25e6, 40 * MS),
        &[(1.0, 258_000); 20],
        15.0,
        135.0,
    );
    let oldest = seen.ages.iter().map(|it| it.1).max().unwrap();
    assert!(oldest < MAX_AGE + 40 * MS, "{oldest:?}");
    assert!(seen.goodput() > 0.95 * 1.25e6, "{}", seen.goodput());
}

#[test]
fn a_camera_whose_frame_was_too_old_has_not_lost_its_turn() {
    let cameras = [[(1.0, 258_000); 10], [(5.0, 258_000); 10]].concat();
    let seen = run(&Uplink::new(1.25e6, 40 * MS), &cameras, 15.0, 315.0);
    assert!(seen.fairness() > 0.98, "{:?}", seen.bytes);
}

#[test]
fn a_moment_without_confirms_on_a_fast_uplink_costs_hardly_a_frame() {
    // Of a longer one nobody can tell whether the uplink has become slow: a few frames wait for its
    // end.
    for (every, pause, share) in [
        (0.7, 0.05, 0.99),
        (0.7, 0.1, 0.99),
        (1.7, 0.3, 0.96),
        (3.3, 0.5, 0.96),
    ] {
        let mut uplink = Uplink::new(1e9, MS);
        uplink.deaf = Some((every, pause));
        let cameras = [(15.0, 100_000); 6];
        let with = run(&uplink, &cameras, 15.0, 75.0).goodput();
        let without = play(Order::new(None), &uplink, &cameras, 15.0, 75.0).goodput();
        let name = format!("{pause} s deaf every {every} s");
        assert!(with > share * without, "{name}: {with} of {without}");
    }
}
