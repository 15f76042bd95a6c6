use super::*;
use crossbeam_utils::sync::Parker;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::mpsc;

const MAX_BYTES: usize = 100;
const MAX_AGE: Duration = Duration::from_millis(100);

/// Here a unit is its number in the epoch, from 1.
type Seq = u64;

/// A camera: gives units their place, and each its own bytes.
struct Camera {
    gop: Gop,
    seq: Seq,
}

impl Camera {
    fn new() -> Self {
        let gop = Gop {
            epoch: 1,
            number: 0,
        };
        Self { gop, seq: 0 }
    }

    fn next(&mut self, key: bool, since: Instant) -> Placed<Seq> {
        self.gop.number += i64::from(key);
        self.seq += 1;
        Placed {
            gop: self.gop,
            key,
            since,
            unit: self.seq,
        }
    }

    fn start_again(&mut self) {
        self.gop.epoch += 1;
        (self.gop.number, self.seq) = (0, 0);
    }
}

fn bytes_of(unit: &Placed<Seq>, len: usize) -> Vec<u8> {
    let first = unit.unit * 7 + unit.gop.epoch.cast_unsigned() * 31;
    (first..).take(len).map(|n| n as u8).collect()
}

/// What a consumer sees, and whether it could decode it.
#[derive(Default)]
struct Decoder {
    last: Option<(i64, Seq)>,
}

impl Decoder {
    fn feed(&mut self, unit: &Placed<Seq>) {
        let follows = self.last == Some((unit.gop.epoch, unit.unit - 1));
        assert!(unit.key || follows, "{unit:?} after {:?}", self.last);
        assert!(self.last < Some((unit.gop.epoch, unit.unit)), "in order");
        self.last = Some((unit.gop.epoch, unit.unit));
    }
}

fn queue() -> (GopSender<Seq>, GopReceiver<Seq>) {
    gops(MAX_BYTES, MAX_AGE, Parker::new().unparker().clone())
}

/// Each unit that leaves, until none does; and what was dropped meanwhile.
fn take_all(rx: &GopReceiver<Seq>, now: Instant) -> (Vec<Seq>, u64) {
    let (mut left, mut dropped) = (vec![], 0);
    loop {
        let (unit, drops) = rx.take(now, &mut Vec::new());
        dropped += drops.total();
        match unit {
            Some(unit) => left.push(unit.unit),
            None => return (left, dropped),
        }
    }
}

const NONE: Drops = Drops {
    overwritten: 0,
    oversize: 0,
    no_key: 0,
    too_old: 0,
};

#[test]
fn units_leave_in_order_with_their_bytes() {
    let ((tx, rx), mut camera, now) = (queue(), Camera::new(), Instant::now());
    let units = [true, false, false].map(|key| camera.next(key, now));
    for unit in units {
        assert_eq!(tx.put(unit, &bytes_of(&unit, 30)), NONE);
    }
    assert_eq!(rx.units(), 3);
    let mut bytes = vec![9; 5];
    for unit in units {
        assert_eq!(rx.take(now, &mut bytes), (Some(unit), NONE));
        assert_eq!(bytes, bytes_of(&unit, 30));
    }
    assert!(!rx.waiting());
    assert_eq!(rx.take(now, &mut bytes), (None, NONE));
    assert!(bytes.is_empty());
}

#[test]
fn a_key_unit_displaces_what_has_waited_for_long_and_what_takes_its_room() {
    let ((tx, rx), mut camera, mut now) = (queue(), Camera::new(), Instant::now());
    for key in [true, false, true, false] {
        assert_eq!(tx.put(camera.next(key, now), &[0; 20]), NONE, "a burst");
    }
    let overwritten = Drops {
        overwritten: 2,
        ..NONE
    };
    assert_eq!(tx.put(camera.next(false, now), &[0; 30]), overwritten);
    now += BEHIND;
    assert_eq!(tx.put(camera.next(true, now), &[0; 10]), NONE);
    now += Duration::from_millis(1);
    let overwritten = Drops {
        overwritten: 4,
        ..NONE
    };
    assert_eq!(tx.put(camera.next(true, now), &[0; 100]), overwritten);
    camera.start_again();
    let overwritten = Drops {
        overwritten: 1,
        ..NONE
    };
    assert_eq!(tx.put(camera.next(true, now), &[0; 100]), overwritten);
    assert_eq!(take_all(&rx, now), (vec![1], 0));
}

#[test]
fn without_room_the_rest_of_the_gop_is_dropped_and_its_head_stays() {
    let ((tx, rx), mut camera, now) = (queue(), Camera::new(), Instant::now());
    let (oversize, no_key) = (
        Drops {
            oversize: 1,
            ..NONE
        },
        Drops { no_key: 1, ..NONE },
    );
    assert_eq!(tx.put(camera.next(false, now), &[0; 9]), no_key);
    assert_eq!(tx.put(camera.next(true, now), &[0; 60]), NONE);
    assert_eq!(tx.put(camera.next(false, now), &[0; 40]), NONE);
    assert_eq!(tx.put(camera.next(false, now), &[0; 1]), oversize);
    assert_eq!(tx.put(camera.next(false, now), &[]), no_key);
    assert_eq!(take_all(&rx, now), (vec![2, 3], 0));
    assert_eq!(tx.put(camera.next(false, now), &[0; 1]), no_key);
    assert_eq!(tx.put(camera.next(true, now), &[0; 9]), NONE);
    assert_eq!(tx.put(camera.next(true, now), &[0; 101]), oversize);
    assert_eq!(tx.put(camera.next(false, now), &[0; 1]), no_key);
    assert_eq!(take_all(&rx, now), (vec![7], 0), "the key that has room");
}

#[test]
fn units_of_no_bytes_are_limited_too() {
    let ((tx, rx), mut camera, now) = (queue(), Camera::new(), Instant::now());
    let dropped = (0..MAX_UNITS + 2).map(|n| tx.put(camera.next(n == 0, now), &[]));
    let dropped = dropped.fold((0, 0), |(oversize, no_key), it| {
        (oversize + it.oversize, no_key + it.no_key)
    });
    assert_eq!((dropped, rx.units()), ((1, 1), MAX_UNITS));
}

#[test]
fn a_head_that_waited_too_long_takes_its_gop_along() {
    let ((tx, rx), mut camera, start) = (queue(), Camera::new(), Instant::now());
    let after = |ms| start + Duration::from_millis(ms);
    for (ms, key) in [(0, true), (50, false), (99, false)] {
        assert_eq!(tx.put(camera.next(key, after(ms)), &[0; 9]), NONE);
    }
    let mut bytes = vec![];
    assert_eq!(rx.take(after(100), &mut bytes).0.unwrap().unit, 1);
    let drops = Drops {
        too_old: 1,
        no_key: 1,
        ..NONE
    };
    assert_eq!(rx.take(after(151), &mut bytes), (None, drops));
    let no_key = Drops { no_key: 1, ..NONE };
    assert_eq!(tx.put(camera.next(false, after(151)), &[0; 9]), no_key);
    assert_eq!(tx.put(camera.next(true, after(152)), &[0; 9]), NONE);
    assert_eq!(take_all(&rx, after(152)), (vec![5], 0));
}

#[test]
fn a_broken_gop_is_dropped_at_the_next_look_and_as_it_comes() {
    let ((tx, rx), mut camera, now) = (queue(), Camera::new(), Instant::now());
    for key in [true, false, false] {
        assert_eq!(tx.put(camera.next(key, now), &[0; 9]), NONE);
    }
    let first = rx.take(now, &mut vec![]).0.unwrap();
    rx.broken(first.gop);
    assert_eq!(rx.units(), 2, "only marked");
    let drops = Drops { no_key: 3, ..NONE };
    assert_eq!(tx.put(camera.next(false, now), &[0; 9]), drops);
    assert_eq!(tx.put(camera.next(true, now), &[0; 9]), NONE);
    rx.broken(first.gop);
    assert_eq!(take_all(&rx, now), (vec![5], 0), "a newer GOP is whole");
    assert_eq!(tx.put(camera.next(false, now), &[0; 9]), NONE);
    rx.broken(camera.gop);
    rx.broken(first.gop);
    assert_eq!(take_all(&rx, now), (vec![], 1), "the newest mark counts");
}

#[test]
fn a_break_is_reported_without_waiting_for_a_copy() {
    let (tx, rx) = queue();
    let copying = tx.shared.queue.lock();
    std::thread::scope(|scope| {
        let (done, wait) = mpsc::channel();
        scope.spawn(move || {
            rx.broken(Camera::new().gop);
            done.send(()).unwrap();
        });
        let reported = wait.recv_timeout(Duration::from_secs(10));
        drop(copying);
        reported.expect("it does not wait");
    });
}

#[test]
fn what_hangs_on_a_skipped_unit_is_dropped_and_what_was_before_it_stays() {
    let ((tx, rx), mut camera, now) = (queue(), Camera::new(), Instant::now());
    assert_eq!(tx.put(camera.next(true, now), &[0; 9]), NONE);
    tx.skip(camera.next(false, now).gop);
    let no_key = Drops { no_key: 1, ..NONE };
    assert_eq!(tx.put(camera.next(false, now), &[0; 9]), no_key);
    assert_eq!(take_all(&rx, now), (vec![1], 0));
    assert_eq!(tx.put(camera.next(true, now), &[0; 9]), NONE);
    tx.skip(camera.next(true, now).gop);
    assert_eq!(tx.put(camera.next(false, now), &[0; 9]), no_key);
    assert_eq!(take_all(&rx, now), (vec![4], 0));
}

#[test]
fn the_receiver_is_woken_when_a_unit_comes_and_at_the_end() {
    let parker = Parker::new();
    let (tx, rx) = gops(MAX_BYTES, MAX_AGE, parker.unparker().clone());
    let (mut camera, now) = (Camera::new(), Instant::now());
    assert_eq!(tx.put(camera.next(true, now), &[1]), NONE);
    parker.park();
    assert_eq!(tx.put(camera.next(false, now), &[1]), NONE);
    assert!(!rx.closed());
    drop(tx);
    parker.park();
    assert!(rx.closed());
    assert_eq!(take_all(&rx, now), (vec![1, 2], 0), "still there");
}

#[test]
fn the_storage_grows_on_demand_and_is_freed_when_nothing_waits() {
    let ((tx, rx), mut camera, now) = (queue(), Camera::new(), Instant::now());
    let storage = tx.storage();
    let mut put = |key, len| {
        assert_eq!(tx.put(camera.next(key, now), &vec![0; len]), NONE);
        storage.size()
    };
    assert_eq!(
        [put(true, 20), put(false, 10), put(false, 40)],
        [20, 40, 80]
    );
    assert_eq!(put(false, 11), MAX_BYTES, "never beyond");
    storage.release();
    assert_eq!(storage.size(), MAX_BYTES, "it is in use");
    assert_eq!(take_all(&rx, now), (vec![1, 2, 3, 4], 0));
    assert_eq!(storage.size(), 0, "as soon as it is not");
    assert_eq!(put(true, 20), 20);
    assert_eq!(take_all(&rx, now), (vec![5], 0));
    assert_eq!(storage.size(), 20, "it was asked for once");
    storage.clone().release();
    assert_eq!(storage.size(), 0);
}

#[test]
fn a_storage_that_has_grown_is_used_again() {
    let ((tx, rx), mut camera, now) = (queue(), Camera::new(), Instant::now());
    let capacity = || {
        let queue = tx.shared.queue.lock();
        (queue.bytes.capacity(), queue.units.capacity())
    };
    let mut bytes = Vec::new();
    let mut round = |n: usize| {
        for key in [true, false, false] {
            assert_eq!(tx.put(camera.next(key, now), &vec![0; 20 + n % 13]), NONE);
        }
        for _ in 0..3 {
            assert!(rx.take(now, &mut bytes).0.is_some());
        }
        (capacity(), bytes.capacity())
    };
    let warm = (0..13).map(&mut round).last();
    assert_eq!((0..1000).map(round).last(), warm);
}

/// What happens to a queue.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put {
        key: bool,
        len: usize,
    },
    /// A unit is lost before the queue.
    Skip {
        key: bool,
    },
    Session,
    Pass {
        ms: u64,
    },
    Take,
    /// The GOP of the unit that left so many units ago breaks.
    Broken {
        ago: usize,
    },
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..40usize).prop_map(|len| Step::Put { key: false, len }),
        3 => (0..110usize).prop_map(|len| Step::Put { key: true, len }),
        1 => prop::bool::weighted(0.2).prop_map(|key| Step::Skip { key }),
        1 => Just(Step::Session),
        4 => (0..60u64).prop_map(|ms| Step::Pass { ms }),
        10 => Just(Step::Take),
        1 => (0..4usize).prop_map(|ago| Step::Broken { ago }),
        1 => Just(Step::Release),
    ]
}

/// The same rules, in the simplest form: which GOPs have begun, and which have lost a unit.
#[derive(Default)]
struct Model {
    waiting: Vec<(Placed<Seq>, usize)>,
    begun: BTreeSet<Gop>,
    lost: BTreeSet<Gop>,
    broken: Option<Gop>,
}

impl Model {
    /// Drops what waits of these GOPs, and returns how many units that were.
    fn drop_all(&mut self, which: impl Fn(Gop) -> bool) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|(unit, _)| !which(unit.gop));
        let gops = self.begun.iter().copied();
        self.lost.extend(gops.filter(|gop| which(*gop)));
        (before - self.waiting.len()) as u64
    }

    fn drop_broken(&mut self) -> u64 {
        let broken = self.broken;
        self.drop_all(|gop| Some(gop) <= broken)
    }

    fn put(&mut self, unit: Placed<Seq>, len: usize) -> Drops {
        let no_key = self.drop_broken();
        let mut drops = Drops { no_key, ..NONE };
        if unit.key && len <= MAX_BYTES {
            self.begun.insert(unit.gop);
        }
        let whole = self.begun.contains(&unit.gop) && !self.lost.contains(&unit.gop);
        let hangs = !unit.key && !whole;
        let fits = |model: &Self| {
            let used: usize = model.waiting.iter().map(|(_, len)| len).sum();
            used + len <= MAX_BYTES
        };
        let head = self.waiting.first();
        let behind = unit.key && head.is_some_and(|(head, _)| unit.since - head.since > BEHIND);
        if !hangs && len <= MAX_BYTES && (behind || !fits(self)) {
            drops.overwritten = self.drop_all(|gop| gop < unit.gop);
        }
        if hangs {
            drops.no_key += 1;
        } else if !fits(self) {
            drops.oversize += 1;
            self.lost.insert(unit.gop);
        } else {
            self.waiting.push((unit, len));
        }
        drops
    }

    fn take(&mut self, now: Instant) -> (Option<(Placed<Seq>, usize)>, Drops) {
        let no_key = self.drop_broken();
        let mut drops = Drops { no_key, ..NONE };
        while let Some((head, _)) = self.waiting.first().copied() {
            if now - head.since <= MAX_AGE {
                return (Some(self.waiting.remove(0)), drops);
            }
            drops.too_old += 1;
            drops.no_key += self.drop_all(|gop| gop == head.gop) - 1;
        }
        (None, drops)
    }
}

/// A queue and its model, the camera before them and the consumer behind them.
struct Bench {
    tx: GopSender<Seq>,
    rx: GopReceiver<Seq>,
    storage: GopStorage,
    model: Model,
    camera: Camera,
    decoder: Decoder,
    now: Instant,
    put: u64,
    dropped: u64,
    left: Vec<Placed<Seq>>,
}

impl Bench {
    fn new() -> Self {
        let (tx, rx) = queue();
        Self {
            storage: tx.storage(),
            tx,
            rx,
            model: Model::default(),
            camera: Camera::new(),
            decoder: Decoder::default(),
            now: Instant::now(),
            put: 0,
            dropped: 0,
            left: vec![],
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put { key, len } => {
                let unit = self.camera.next(key, self.now);
                let drops = self.tx.put(unit, &bytes_of(&unit, len));
                assert_eq!(drops, self.model.put(unit, len));
                self.put += 1;
                self.dropped += drops.total();
            }
            Step::Skip { key } => {
                let gop = self.camera.next(key, self.now).gop;
                self.tx.skip(gop);
                self.model.lost.insert(gop);
            }
            Step::Session => self.camera.start_again(),
            Step::Pass { ms } => self.now += Duration::from_millis(ms),
            Step::Take => self.take(),
            Step::Broken { ago } => {
                if let Some(unit) = self.left.iter().rev().nth(ago) {
                    self.rx.broken(unit.gop);
                    self.model.broken = self.model.broken.max(Some(unit.gop));
                }
            }
            Step::Release => self.storage.release(),
        }
        let accounted = self.left.len() as u64 + self.dropped + self.rx.units() as u64;
        assert_eq!(self.put, accounted);
        assert!(self.storage.size() <= MAX_BYTES);
    }

    fn take(&mut self) {
        let mut bytes = vec![1, 2, 3];
        let (unit, drops) = self.rx.take(self.now, &mut bytes);
        let (expected, expected_drops) = self.model.take(self.now);
        assert_eq!((unit, drops), (expected.map(|it| it.0), expected_drops));
        self.dropped += drops.total();
        if let (Some(unit), Some((_, len))) = (unit, expected) {
            self.decoder.feed(&unit);
            assert_eq!(bytes, bytes_of(&unit, len));
            assert!(self.now - unit.since <= MAX_AGE);
            assert!(Some(unit.gop) > self.model.broken);
            self.left.push(unit);
        }
    }
}

proptest! {
    /// Whatever comes, waits and breaks: what leaves can be decoded, is whole and fresh, all else
    /// is accounted for, and the storage keeps its bound.
    #[test]
    fn what_leaves_can_be_decoded_and_all_else_is_accounted_for(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut bench = Bench::new();
        steps.into_iter().for_each(|step| bench.step(step));
    }
}

/// Plays 15 units/s into a receiver that takes nothing for 10 s. Returns how long after that the
/// first unit leaves that is not older than 0.5 s.
fn live_after_a_freeze(units_per_gop: u64, freeze_at: u64) -> Duration {
    const MIB: usize = 1 << 20;
    const FPS: u64 = 15;
    let (tx, rx) = gops(
        4 * MIB,
        Duration::from_secs(4),
        Parker::new().unparker().clone(),
    );
    let (mut camera, start) = (Camera::new(), Instant::now());
    let (mut decoder, mut dropped, mut put, mut left) = (Decoder::default(), 0, 0, 0);
    let freeze = freeze_at..freeze_at + 10 * FPS;
    let mut first = true;
    for n in 0.. {
        let now = start + Duration::from_secs(n) / FPS as u32;
        let key = n % units_per_gop == 0;
        let len = if key { 230_000 } else { 20_000 };
        dropped += tx.put(camera.next(key, now), &vec![0; len]).total();
        put += 1;
        if freeze.contains(&n) {
            continue;
        }
        let mut bytes = vec![];
        while rx.waiting() {
            let (unit, drops) = rx.take(now, &mut bytes);
            dropped += drops.total();
            let Some(unit) = unit else { continue };
            decoder.feed(&unit);
            left += 1;
            if n < freeze.end {
                continue;
            }
            assert!(unit.key || !first, "the first one begins a GOP");
            first = false;
            if now - unit.since <= Duration::from_millis(500) {
                assert_eq!(put, left + dropped + rx.units() as u64);
                return Duration::from_secs(n - freeze.end) / FPS as u32;
            }
        }
    }
    unreachable!()
}

#[test]
fn after_a_freeze_the_newest_gop_is_live_within_one_gop() {
    for freeze_at in 30..60 {
        assert_eq!(live_after_a_freeze(30, freeze_at), Duration::ZERO);
    }
    // The key unit of such a GOP may be older than 4 s. Then the next one is waited for.
    let live = (150..300).map(|freeze_at| live_after_a_freeze(150, freeze_at));
    let longest = live.max().unwrap();
    assert!(longest > Duration::from_secs(5) && longest < Duration::from_secs(10));
}

#[test]
fn two_threads_lose_nothing_and_what_leaves_can_be_decoded() {
    const UNITS: u64 = 50_000;
    let parker = Parker::new();
    let (tx, rx) = gops(2000, Duration::from_secs(600), parker.unparker().clone());
    let len = |seq: Seq| (seq * 37 % 300) as usize;
    let (put_drops, (left, take_drops)) = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut camera, now) = (Camera::new(), Instant::now());
            let put = |n| {
                let unit = camera.next(n % 10 == 0, now);
                tx.put(unit, &bytes_of(&unit, len(unit.unit))).total()
            };
            (0..UNITS).map(put).sum::<u64>()
        });
        let publisher = scope.spawn(move || {
            let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
            let (mut left, mut dropped) = (0, 0);
            loop {
                // Read before the queue, since the last unit is put in before it closes.
                let closed = rx.closed();
                let (unit, drops) = rx.take(Instant::now(), &mut bytes);
                dropped += drops.total();
                match unit {
                    Some(unit) => {
                        decoder.feed(&unit);
                        assert_eq!(bytes, bytes_of(&unit, len(unit.unit)));
                        left += 1;
                        if left % 100 == 0 {
                            rx.broken(unit.gop);
                        }
                    }
                    None if closed && !rx.waiting() => return (left, dropped),
                    None if closed => {}
                    None => parker.park(),
                }
            }
        });
        (reader.join().unwrap(), publisher.join().unwrap())
    });
    assert_eq!(put_drops + left + take_drops, UNITS);
    assert!(left > 0);
}
