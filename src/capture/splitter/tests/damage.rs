//! Tests with random streams, whole and damaged.

use super::super::super::jpeg::tests as make;
use super::*;
use proptest::prelude::*;
use std::ops::Range;

/// A part in one of the many ways in which it may be written.
#[derive(Debug, Clone)]
struct Spec {
    scan: Vec<u8>,
    thumbnail: bool,
    padding: usize,
    announced: bool,
    length_first: bool,
    extra: bool,
    upper: bool,
    bare_newline: bool,
}

impl Spec {
    fn jpeg(&self) -> Vec<u8> {
        let thumbnail = if self.thumbnail {
            make::thumbnail()
        } else {
            Vec::new()
        };
        let header = make::frame_header(0xC2, 320, 240);
        make::picture(&[thumbnail, header, make::scan(&self.scan)])
    }

    /// Header, picture, boundary line.
    fn pieces(&self) -> [Vec<u8>; 3] {
        let mut jpeg = self.jpeg();
        let mut header = vec!["Content-type: image/jpeg".to_owned()];
        if self.announced {
            jpeg.extend(vec![0; self.padding]);
            let at = usize::from(!self.length_first);
            header.insert(at, format!("Content-length: {}", jpeg.len()));
        }
        if self.extra {
            header.insert(0, "X-Time:1:2".to_owned());
        }
        let newline = if self.bare_newline { "\n" } else { "\r\n" };
        let mut header = header.join(newline) + newline + newline;
        if self.upper {
            header.make_ascii_uppercase();
        }
        let line = format!("{newline}--ffmpeg{newline}");
        [header.into_bytes(), jpeg, line.into_bytes()]
    }
}

prop_compose! {
    fn spec()(
        scan in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(any::<u8>(), 0..9000),
        ],
        padding in 0..4usize,
        announced in prop::bool::weighted(0.8),
        [thumbnail, length_first, extra, upper, bare_newline] in any::<[bool; 5]>(),
    ) -> Spec {
        Spec {
            scan, thumbnail, padding, announced, length_first, extra, upper, bare_newline,
        }
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1..20usize).prop_map(Act::Give),
        8 => (1..5000usize).prop_map(Act::Give),
        4 => Just(Act::Give(usize::MAX)),
        1 => Just(Act::Fail(io::ErrorKind::Interrupted)),
        1 => Just(Act::Fail(io::ErrorKind::TimedOut)),
    ];
    // At least one that gives, or it would never end.
    prop::collection::vec(act, 0..30).prop_map(|mut acts| {
        acts.push(Act::Give(700));
        acts
    })
}

/// The stream, where its parts lie, and where their headers and pictures. The first line
/// belongs to the first part.
fn assemble(specs: &[Spec]) -> (Vec<u8>, Vec<Range<usize>>, Vec<Range<usize>>) {
    let mut stream = LINE.to_vec();
    let (mut parts, mut bodies) = (Vec::new(), Vec::new());
    for spec in specs {
        let start = stream.len();
        let [header, jpeg, line] = spec.pieces();
        stream.extend(header);
        stream.extend(jpeg);
        bodies.push(start..stream.len());
        stream.extend(line);
        parts.push(start..stream.len());
    }
    parts[0].start = 0;
    (stream, parts, bodies)
}

/// Damage at a place from 0 to 1 within what may be damaged.
#[derive(Debug, Clone)]
enum Damage {
    Flip(f64, u8),
    Delete(f64, usize),
    Insert(f64, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0.0..1.0f64, 0..8u32).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        (0.0..1.0f64, prop_oneof![1..10usize, 1..4000usize])
            .prop_map(|(at, length)| Damage::Delete(at, length)),
        (0.0..1.0f64, prop::collection::vec(any::<u8>(), 1..3000))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

impl Damage {
    /// Damages `stream` within `within`; what was touched, in places of the stream before.
    fn apply(&self, stream: &mut Vec<u8>, within: Range<usize>) -> Range<usize> {
        let place = |at: &f64| within.start + (at * within.len() as f64) as usize;
        match self {
            Self::Flip(at, bits) => {
                let at = place(at);
                stream[at] ^= bits;
                at..at + 1
            }
            Self::Delete(at, length) => {
                let at = place(at);
                let end = (at + length).min(within.end);
                stream.drain(at..end);
                at..end
            }
            Self::Insert(at, bytes) => {
                let at = place(at);
                stream.splice(at..at, bytes.iter().copied());
                // Between two bytes it touches both.
                at.saturating_sub(1)..at + 1
            }
        }
    }
}

/// By chance the damaged length fits: the one thing that stays unseen.
fn leads_to_a_later_end(frame: &Frame) -> bool {
    frame
        .jpeg
        .windows(LINE.len() - 2)
        .any(|window| window == b"--ffmpeg")
}

proptest! {
    /// However parts are written and however reads cut the stream: every frame comes, byte for
    /// byte, stamped with the read that brought its part's first byte.
    #[test]
    fn every_frame_of_a_sound_stream_comes(
        specs in prop::collection::vec(spec(), 1..12), acts in acts(),
    ) {
        let (stream, _, bodies) = assemble(&specs);
        let mut splitter = splitter(Pipe::new(stream, acts));
        let frames = split(&mut splitter);
        prop_assert_eq!(frames.len(), specs.len());
        for ((frame, spec), body) in frames.into_iter().zip(&specs).zip(bodies) {
            prop_assert_eq!(frame, Ok(Frame {
                jpeg: spec.jpeg(),
                size: jpeg::Size { width: 320, height: 240 },
                read: splitter.reader.read_of(body.start),
            }));
        }
    }

    /// Damage inside one part's header or picture costs at most that part, which is counted
    /// once; all others come byte for byte. (The part itself may
    /// come: a flip inside a scan shows to a decoder only.)
    #[test]
    fn damage_within_a_part_costs_that_part_only(
        specs in prop::collection::vec(spec(), 1..8), acts in acts(),
        hit in any::<prop::sample::Index>(), damage in damage(),
    ) {
        let (mut stream, _, bodies) = assemble(&specs);
        let hit = hit.index(specs.len());
        damage.apply(&mut stream, bodies[hit].clone());
        let outcomes = split(&mut splitter(Pipe::new(stream, acts)));
        prop_assume!(!outcomes.iter().flatten().any(leads_to_a_later_end));
        prop_assert_eq!(outcomes.len(), specs.len());
        for (index, (outcome, spec)) in outcomes.into_iter().zip(&specs).enumerate() {
            if index != hit {
                prop_assert_eq!(outcome.map(|frame| frame.jpeg), Ok(spec.jpeg()));
            }
        }
    }

    /// Damage anywhere, boundary lines too: it ends, no part is counted twice, and every sound
    /// part whose neighbours are sound comes byte for byte and in order.
    #[test]
    fn what_is_away_from_damage_comes(
        specs in prop::collection::vec(spec(), 1..12), acts in acts(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let (mut stream, parts, _) = assemble(&specs);
        let mut sound = vec![true; specs.len()];
        let share = stream.len() / damages.len();
        // From the back, so that places in front stay where they are.
        for (nth, damage) in damages.iter().enumerate().rev() {
            let touched = damage.apply(&mut stream, nth * share..(nth + 1) * share);
            for (index, part) in parts.iter().enumerate() {
                if part.start < touched.end && touched.start < part.end {
                    let neighbours = index.saturating_sub(1)..(index + 2).min(specs.len());
                    sound[neighbours].fill(false);
                }
            }
        }
        let outcomes = split(&mut splitter(Pipe::new(stream, acts)));
        prop_assume!(!outcomes.iter().flatten().any(leads_to_a_later_end));
        prop_assert!(outcomes.len() <= specs.len() + 1);
        let mut came = outcomes.into_iter().flatten();
        for (spec, _) in specs.iter().zip(sound).filter(|(_, sound)| *sound) {
            prop_assert!(came.any(|frame| frame.jpeg == spec.jpeg()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_hang(
        pieces in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..50),
            prop::sample::select(vec![
                LINE.to_vec(), b"\r\n".to_vec(), b"--ff".to_vec(), b"--".to_vec(),
                b"Content-length: 30\r\n".to_vec(), b"Content-length: 0\r\n\r\n".to_vec(),
                picture(0, 7), part(&picture(9, 7)), vec![0xFF, 0xD8],
            ]),
        ], 0..30),
        acts in acts(),
    ) {
        split(&mut splitter(Pipe::new(pieces.concat(), acts)));
    }
}
