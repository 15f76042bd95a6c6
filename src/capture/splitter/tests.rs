//! Tests of the splitter with good and damaged streams, in pieces of any size.

mod damage;

use super::super::jpeg::tests as make;
use super::carry::CARRY_KEPT;
use super::search::{LOST_AFTER, SEARCH_READ};
use super::*;
use crate::clock::Stamp;
use crate::handoff::pool::Pool;
use std::cell::Cell;
use std::fmt;
use std::process::Command;
use std::time::Instant;

const MAX_FRAME: usize = 1024 * 1024;

thread_local! {
    /// The tests' clock: how many reads have returned.
    static READS: Cell<i64> = const { Cell::new(0) };
    static ORIGIN: Instant = Instant::now();
}

fn reads<R>(_: &R) -> Arrival {
    let monotonic = ORIGIN.with(|origin| *origin);
    let read = Stamp {
        monotonic,
        unix_us: READS.get(),
    };
    Arrival {
        read,
        written_after: monotonic,
    }
}

/// What a read does.
#[derive(Debug, Clone, Copy)]
enum Act {
    Give(usize),
    Fail(io::ErrorKind),
}

/// Plays a pipe: what a read does follows `acts`, round and round.
struct Pipe {
    stream: Vec<u8>,
    given: usize,
    acts: Vec<Act>,
    calls: usize,
    /// Where each read that brought something ended, and the clock then.
    ends: Vec<(usize, i64)>,
}

impl Pipe {
    fn new(stream: Vec<u8>, acts: Vec<Act>) -> Self {
        READS.set(0);
        Self {
            stream,
            given: 0,
            acts,
            calls: 0,
            ends: Vec::new(),
        }
    }

    /// Whatever is asked for is there at once.
    fn full(stream: Vec<u8>) -> Self {
        Self::new(stream, vec![Act::Give(usize::MAX)])
    }

    /// When this byte was read.
    fn read_of(&self, at: usize) -> i64 {
        self.ends.iter().find(|&&(end, _)| end > at).unwrap().1
    }
}

impl Read for Pipe {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        assert!(!space.is_empty(), "a read of nothing looks like the end");
        let act = self.acts[self.calls % self.acts.len()];
        self.calls += 1;
        READS.set(READS.get() + 1);
        let most = match act {
            Act::Give(most) => most.min(space.len()),
            Act::Fail(kind) => return Err(kind.into()),
        };
        let rest = &self.stream[self.given..];
        let count = most.min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        if count > 0 {
            self.given += count;
            self.ends.push((self.given, READS.get()));
        }
        Ok(count)
    }
}

fn splitter(pipe: Pipe) -> Splitter<Pipe> {
    Splitter::new(pipe, MAX_FRAME, reads)
}

#[derive(Debug, Clone, PartialEq)]
struct Frame {
    jpeg: Vec<u8>,
    size: jpeg::Size,
    read: i64,
}

/// Everything until the end of the stream, with three recycled buffers as the reader has them.
fn split(splitter: &mut Splitter<Pipe>) -> Vec<Result<Frame, Skip>> {
    let pool = Pool::new();
    let mut out = Vec::new();
    loop {
        let mut buffer = pool.take();
        let part = loop {
            match splitter.next(&mut buffer) {
                Err(SplitError::Io(error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                }
                part => break part,
            }
        };
        match part {
            Ok(Part::Frame { first_byte, size }) => out.push(Ok(Frame {
                jpeg: buffer.picture().to_vec(),
                size,
                read: first_byte.read.unix_us,
            })),
            Ok(Part::Skipped(skip)) => {
                assert!(buffer.picture().is_empty());
                out.push(Err(skip));
            }
            Err(SplitError::Eof) => return out,
            Err(error) => panic!("{error}"),
        }
    }
}

fn split_all(stream: Vec<u8>) -> Vec<Result<Frame, Skip>> {
    split(&mut splitter(Pipe::full(stream)))
}

/// Only the pictures, and why there is none.
fn pictures(stream: Vec<u8>) -> Vec<Result<Vec<u8>, Skip>> {
    let frames = split_all(stream).into_iter();
    frames.map(|frame| frame.map(|frame| frame.jpeg)).collect()
}

/// A picture of about `length` bytes.
fn picture(length: usize, fill: u8) -> Vec<u8> {
    make::picture(&[
        make::thumbnail(),
        make::frame_header(0xC0, 640, 480),
        make::scan(&vec![fill; length]),
    ])
}

const LINE: &[u8] = b"--ffmpeg\r\n";

/// A part as FFmpeg writes it, with the line behind it, announcing `length`.
fn announcing(length: impl fmt::Display, jpeg: &[u8]) -> Vec<u8> {
    let header = format!("Content-type: image/jpeg\r\nContent-length: {length}\r\n\r\n");
    [header.as_bytes(), jpeg, b"\r\n", LINE].concat()
}

fn part(jpeg: &[u8]) -> Vec<u8> {
    announcing(jpeg.len(), jpeg)
}

fn stream(parts: &[Vec<u8>]) -> Vec<u8> {
    [LINE, &parts.concat()].concat()
}

#[test]
fn what_ffmpeg_really_writes() {
    let ffmpeg = |format: &str| {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-loglevel", "error", "-threads", "1"]);
        command.args(["-f", "lavfi", "-i", "testsrc2=size=322x242:rate=5"]);
        command.args(["-frames:v", "20", "-c:v", "mjpeg", "-threads", "1"]);
        command.args(["-f", format, "-"]).output()
    };
    let Ok(parts) = ffmpeg("mpjpeg") else {
        eprintln!("skipped: no ffmpeg here");
        return;
    };
    let frames = split_all(parts.stdout);
    assert_eq!(frames.len(), 20);
    let mut concatenated = Vec::new();
    for frame in frames {
        let frame = frame.unwrap();
        assert_eq!((frame.size.width, frame.size.height), (322, 242));
        concatenated.extend(frame.jpeg);
    }
    assert!(concatenated == ffmpeg("mjpeg").unwrap().stdout);
}

#[test]
fn frames_of_one_size_cost_one_read_each_and_no_copy() {
    let jpeg = picture(50_000, 7);
    let mut splitter = splitter(Pipe::full(stream(&vec![part(&jpeg); 50])));
    let pool = Pool::new();
    for seen in 0..50 {
        let mut buffer = pool.take();
        let reads = splitter.reader.calls;
        assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
        assert_eq!(buffer.picture(), jpeg);
        // The first read looked for the boundary and brought more than one part.
        if seen > 2 {
            assert_eq!(splitter.reader.calls - reads, 1);
            assert_eq!(splitter.carry.taken, splitter.carry.bytes.len());
        }
    }
}

#[test]
fn after_warm_up_nothing_is_allocated() {
    let sizes = |n: usize| if n < 6 { 90_000 } else { n * 7919 % 90_000 };
    let parts = (0..300).map(|n| part(&picture(sizes(n), 1)));
    let mut splitter = splitter(Pipe::full(stream(&parts.collect::<Vec<_>>())));
    let pool = Pool::new();
    let mut warm = None;
    for seen in 0..300 {
        let mut buffer = pool.take();
        assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
        let storage = buffer.storage(0).len();
        assert!(storage < 100_000, "{storage}");
        if seen == 100 {
            warm = Some((storage, splitter.carry.bytes.capacity()));
        } else if seen > 100 {
            assert_eq!(warm, Some((storage, splitter.carry.bytes.capacity())));
        }
    }
}

#[test]
fn a_frame_does_not_wait_for_the_next_one() {
    let jpeg = picture(9000, 7);
    let mut splitter = splitter(Pipe::new(
        stream(&[part(&jpeg)]),
        vec![Act::Give(1000), Act::Fail(io::ErrorKind::TimedOut)],
    ));
    let mut buffer = Pool::new().take();
    for _ in 0..9 {
        let waiting = splitter.next(&mut buffer);
        assert!(matches!(waiting, Err(SplitError::Io(_))), "{waiting:?}");
    }
    assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
    assert_eq!(buffer.picture(), jpeg);
}

#[test]
fn padding_within_a_part_is_left_out() {
    let jpeg = picture(100, 7);
    let padded = [&jpeg[..], &[0; 7]].concat();
    let stream = stream(&[part(&padded), part(&jpeg)]);
    assert_eq!(pictures(stream), [Ok(jpeg.clone()), Ok(jpeg)]);
}

#[test]
fn an_oversize_part_is_skipped_and_does_not_grow_the_buffer() {
    let (good, huge) = (picture(100, 7), picture(3 * MAX_FRAME, 7));
    let mut splitter = splitter(Pipe::full(stream(&[part(&huge), part(&good)])));
    let mut buffer = Pool::new().take();
    let skipped = splitter.next(&mut buffer).unwrap();
    assert_eq!(skipped, Part::Skipped(Skip::Oversize));
    assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
    assert_eq!(buffer.picture(), good);
    assert!(buffer.storage(0).len() <= 2 * SEARCH_READ);
}

#[test]
fn an_oversize_part_is_never_taken_for_a_lost_stream() {
    let (good, huge) = (picture(100, 7), picture(9 * MAX_FRAME, 7));
    let stream = stream(&[part(&huge), part(&good)]);
    assert_eq!(pictures(stream), [Err(Skip::Oversize), Ok(good)]);
}

#[test]
fn an_oversize_part_without_a_length_is_skipped() {
    let (good, huge) = (picture(100, 7), picture(3 * MAX_FRAME, 7));
    let huge = [b"\r\n", &huge[..], b"\r\n", LINE].concat();
    let mut splitter = splitter(Pipe::full(stream(&[huge, part(&good)])));
    let mut buffer = Pool::new().take();
    let skipped = splitter.next(&mut buffer).unwrap();
    assert_eq!(skipped, Part::Skipped(Skip::Oversize));
    assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
    assert_eq!(buffer.picture(), good);
    assert!(buffer.storage(0).len() <= MAX_FRAME + 2 * SEARCH_READ);
}

#[test]
fn a_second_boundary_line_is_no_damaged_part() {
    let good = picture(1000, 7);
    let stream = [&stream(&[part(&good), part(&good)])[..], LINE, LINE].concat();
    assert_eq!(pictures(stream), [Ok(good.clone()), Ok(good)]);
}

#[test]
fn a_lying_length_costs_its_own_part_only() {
    let jpegs = [1, 2, 3].map(|fill| picture(1000, fill));
    let [first, second, third] = &jpegs;
    for (lie, skip) in [
        ("7", Skip::BadFraming),
        ("1500", Skip::BadFraming),
        ("1000000", Skip::Truncated),
        ("99999999", Skip::Oversize),
        ("99999999999999999999999", Skip::BadHeader),
        ("-1", Skip::BadHeader),
        ("7\r\nContent-Length: 1101", Skip::BadHeader),
    ] {
        let stream = stream(&[part(first), announcing(lie, second), part(third)]);
        assert_eq!(
            pictures(stream),
            [Ok(first.clone()), Err(skip), Ok(third.clone())],
            "{lie}"
        );
    }
}

#[test]
fn a_frame_that_a_lying_length_took_is_not_stamped_later_than_it_came() {
    let jpeg = picture(1000, 7);
    let mut splitter = splitter(Pipe::full(stream(&[
        announcing(100_000, &jpeg),
        part(&jpeg),
    ])));
    let outcomes = split(&mut splitter);
    assert_eq!(outcomes[0], Err(Skip::Truncated));
    let read = outcomes[1].as_ref().unwrap().read;
    assert_eq!(read, splitter.reader.ends.last().unwrap().1);
    assert!(i64::try_from(splitter.reader.calls).unwrap() > read);
}

#[test]
fn a_walk_that_runs_into_the_next_picture_gives_neither_for_one() {
    let good = picture(1000, 7);
    let mut scan = make::scan(&[1]);
    // Its header's length, 256 too much: past the boundary and into the next scan.
    scan[2] = 1;
    let astray = make::picture(&[make::frame_header(0xC0, 8, 8), scan]);
    let astray = [b"\r\n", &astray[..], b"\r\n", LINE].concat();
    let stream = stream(&[astray, part(&good), part(&good)]);
    assert_eq!(
        pictures(stream),
        [Err(Skip::BadFraming), Ok(good.clone()), Ok(good)]
    );
}

#[test]
fn a_part_that_is_no_whole_jpeg_is_skipped() {
    let good = picture(100, 7);
    let cut = &good[..good.len() - 1];
    let text = b"hello".to_vec();
    let stream = stream(&[part(cut), part(&text), part(b""), part(&good)]);
    let bad = |fault| Err(Skip::BadPicture(fault));
    assert_eq!(
        pictures(stream),
        [
            bad(jpeg::Fault::NoEnd),
            bad(jpeg::Fault::NoEnd),
            bad(jpeg::Fault::NoEnd),
            Ok(good),
        ]
    );
}

#[test]
fn a_stream_cut_anywhere_gives_whole_frames_only() {
    let jpeg = picture(30, 7);
    let whole = stream(&[part(&jpeg), part(&jpeg)]);
    let first_end = LINE.len() + part(&jpeg).len();
    for cut in 0..whole.len() {
        let frames = pictures(whole[..cut].to_vec());
        let body_end = |end: usize| end - LINE.len() - 2;
        let expected: &[_] = if cut < LINE.len() + 1 {
            &[]
        } else if cut < body_end(first_end) {
            &[Err(Skip::Truncated)]
        } else if cut <= first_end {
            &[Ok(jpeg.clone())]
        } else if cut < body_end(whole.len()) {
            &[Ok(jpeg.clone()), Err(Skip::Truncated)]
        } else {
            &[Ok(jpeg.clone()), Ok(jpeg.clone())]
        };
        assert_eq!(frames, expected, "{cut}");
    }
}

#[test]
fn a_last_boundary_line_and_text_before_the_first_are_accepted() {
    let jpeg = picture(100, 7);
    let mut stream = stream(&[part(&jpeg), part(&jpeg)]);
    stream.truncate(stream.len() - 2);
    stream.extend(b"--\r\n");
    stream.splice(0..0, *b"usage: --x\r\n--x y\r\n");
    assert_eq!(pictures(stream), [Ok(jpeg.clone()), Ok(jpeg)]);
}

#[test]
fn a_stream_without_boundaries_is_lost_in_bounded_time() {
    for junk in [b'x', b'-', b'\n', 0xFF] {
        let mut splitter = splitter(Pipe::full(vec![junk; 20 * MAX_FRAME]));
        let mut buffer = Pool::new().take();
        for passes in 1..=4 {
            let lost = splitter.next(&mut buffer);
            assert!(matches!(lost, Err(SplitError::Lost)), "{lost:?}");
            let read = splitter.get_mut().given;
            assert!(read < passes * (LOST_AFTER * MAX_FRAME + 2 * SEARCH_READ));
        }
        assert!(buffer.storage(0).len() <= 2 * SEARCH_READ);
    }
}

#[test]
fn a_line_like_a_boundary_in_a_picture_is_not_one() {
    let good = picture(100, 7);
    let settings = make::segment(0xFE, b"\n--settings\r\n");
    let like = make::picture(&[settings, make::frame_header(0xC0, 8, 8), make::scan(&[1])]);
    let unannounced = [b"\r\n", &like[..], b"\r\n", LINE].concat();
    let stream = stream(&[part(&good), unannounced, announcing(9, &like), part(&good)]);
    let expected = [Ok(good.clone()), Ok(like), Err(Skip::BadFraming), Ok(good)];
    assert_eq!(pictures(stream), expected);
}

#[test]
fn a_damaged_first_boundary_line_is_not_kept() {
    let jpeg = picture(100, 7);
    let mut stream = stream(&vec![part(&jpeg); 3]);
    stream[3] ^= 1;
    assert_eq!(
        pictures(stream),
        [Err(Skip::BadFraming), Ok(jpeg.clone()), Ok(jpeg)]
    );
}

#[test]
fn the_memory_of_a_great_surplus_is_given_back() {
    let jpeg = picture(1000, 7);
    let mut parts = vec![announcing(MAX_FRAME, &jpeg)];
    parts.extend(vec![part(&jpeg); 2000]);
    let mut splitter = splitter(Pipe::full(stream(&parts)));
    assert_eq!(split(&mut splitter).iter().flatten().count(), 2000);
    assert!(splitter.carry.bytes.capacity() <= CARRY_KEPT);
}
