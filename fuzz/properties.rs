//! What must hold for any input: for the fuzz targets beside this file, and, over the corpus that
//! is kept here, for `tests/corpus.rs`.

use edge_video::amqp::client::{Confirm, FRAME_MAX, Frame, Inbox, Incoming, Listener, Listeners};
use edge_video::capture::jpeg::{self, Fit, Progress, Walk};
use edge_video::capture::pipe::Arrival;
use edge_video::capture::splitter::{Part, SplitError, Splitter};
use edge_video::capture::units::{Part as UnitPart, Units};
use edge_video::config::{Config, ConfigErrors};
use edge_video::handoff::pool::Pool;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The splitter. The first byte of `input` says how large a frame may be and what surrounds the
/// rest, the second how many reads follow; what is left is the stream.
///
/// Every frame is a piece of the stream from SOI to EOI, in order and without overlap; each part is
/// reported once; neither it nor the buffer grows beyond its bound. If the stream is put between
/// sound parts, those come, whatever it is.
pub fn splitter(input: &[u8]) {
    let [how, reads, rest @ ..] = input else {
        return;
    };
    let max_frame_bytes = [300, 5000, 70_000, 1 << 20][usize::from(how & 3)];
    let (acts, junk) = rest.split_at(usize::from(reads & 15).min(rest.len()));
    let between = how & 4 != 0;
    let stream = match between {
        true => [LINE, &PART.repeat(2), junk, b"\r\n", LINE, &PART.repeat(3)].concat(),
        false => junk.to_vec(),
    };

    let pipe = Pipe {
        stream: &stream,
        given: 0,
        acts,
        calls: 0,
    };
    let mut splitter = Splitter::new(pipe, max_frame_bytes, |_| Arrival::now());
    let pool = Pool::new();
    let mut from = 0;
    let (mut parts, mut frames) = (0, Vec::new());
    let mut buffer = pool.take();
    loop {
        let part = splitter.next(&mut buffer);
        // A longest header, another page read ahead, the boundary line; or what a search reads at
        // once.
        let bound = (max_frame_bytes + 2 * 4096 + 200).max(64 * 1024 + 200);
        let grown = buffer.storage(0).len();
        assert!(
            grown <= bound,
            "{grown} bytes for a frame of {max_frame_bytes}"
        );
        match part {
            Ok(Part::Frame { size, .. }) => {
                let frame = buffer.picture();
                assert!(frame.len() <= max_frame_bytes);
                assert!(frame.starts_with(b"\xFF\xD8") && frame.ends_with(b"\xFF\xD9"));
                assert_eq!(jpeg::size(frame), Ok(size));
                let behind = stream.get(from..).unwrap_or_default();
                let at = find(behind, frame).expect("a piece of the stream behind the last frame");
                from += at + frame.len();
                frames.push(frame.to_vec());
                buffer = pool.take();
            }
            Ok(Part::Skipped(_)) => assert!(buffer.picture().is_empty()),
            Err(SplitError::Eof) => break,
            Err(SplitError::Lost) => {}
            Err(SplitError::Io(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                continue;
            }
        }
        parts += 1;
        assert!(parts <= stream.len(), "more parts than bytes");
    }
    if between {
        assert!(frames.len() >= 2 && frames[..2] == [PICTURE; 2]);
        // The one thing that it cannot see: an announced length that leads to exactly a later end.
        let announced = find(&junk.to_ascii_lowercase(), b"content-length").is_some();
        let swallows = |frame: &Vec<u8>| find(frame, b"--ffmpeg").is_some();
        let last = frames.iter().rev().take(3);
        assert!(
            last.eq([PICTURE; 3]) || announced && frames.iter().any(swallows),
            "no frame from behind the junk"
        );
    }
}

/// A JPEG of 8 x 8.
const PICTURE: &[u8] = b"\xFF\xD8\xFF\xC0\x00\x0B\x08\x00\x08\x00\x08\x01\x01\x11\x00\
\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00\x2A\xFF\xD9";
const LINE: &[u8] = b"--ffmpeg\r\n";
/// As FFmpeg writes it: header, picture, the line behind it.
const PART: &[u8] = b"Content-type: image/jpeg\r\nContent-length: 28\r\n\r\n\
\xFF\xD8\xFF\xC0\x00\x0B\x08\x00\x08\x00\x08\x01\x01\x11\x00\
\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00\x2A\xFF\xD9\r\n--ffmpeg\r\n";

/// Gives the stream in pieces, as `acts` say, round and round.
struct Pipe<'a> {
    stream: &'a [u8],
    given: usize,
    acts: &'a [u8],
    calls: usize,
}

impl Read for Pipe<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        assert!(!space.is_empty(), "a read of nothing looks like the end");
        let act = match self.acts {
            [] => u8::MAX,
            acts => acts[self.calls % acts.len()],
        };
        self.calls += 1;
        let most = match act {
            // One byte now and then, or schedules of nothing but failures would never end.
            0 | 1 if self.calls.is_multiple_of(3) => 1,
            0 => return Err(io::ErrorKind::TimedOut.into()),
            1 => return Err(io::ErrorKind::Interrupted.into()),
            2..200 => usize::from(act) - 1,
            200..250 => (usize::from(act) - 199) * 1000,
            250.. => usize::MAX,
        };
        let rest = &self.stream[self.given..];
        let count = most.min(rest.len()).min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}

/// The JPEG header parser. The first byte of `input` is a step, the rest a picture.
///
/// A size is never zero and does not depend on what follows the header. A walk finds the same end
/// whatever the steps in which the bytes come, needs every byte of the picture, and agrees with
/// what looks for the end from behind.
pub fn jpeg(input: &[u8]) {
    let [step, bytes @ ..] = input else { return };
    let size = jpeg::size(bytes);
    if let Ok(size) = size {
        assert!(size.width > 0 && size.height > 0);
        let more = [bytes, &[0; 9]].concat();
        assert_eq!(jpeg::size(&more), Ok(size));
    }
    if let Ok(end) = jpeg::end(bytes) {
        let (picture, padding) = bytes.split_at(end);
        assert!(picture.ends_with(b"\xFF\xD9"));
        assert!(padding.iter().all(|byte| matches!(byte, 0 | b'\r' | b'\n')));
    }

    match jpeg::fit(bytes, 1 << 20) {
        Ok(Fit::AsItIs) => assert_eq!(jpeg::end(bytes), Ok(bytes.len())),
        Ok(Fit::Tables(at)) => {
            let whole = [&bytes[..at], &jpeg::STANDARD_TABLES[..], &bytes[at..]].concat();
            assert_eq!(jpeg::fit(&whole, 1 << 20), Ok(Fit::AsItIs));
        }
        Ok(Fit::Unusual) | Err(_) => {}
    }
    let whole = Walk::default().advance(bytes);
    let mut walk = Walk::default();
    let step = usize::from(*step).max(1);
    let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
    let progress = ends
        .map(|end| (end, walk.advance(&bytes[..end])))
        .find(|(_, progress)| *progress != Progress::NeedMore);
    match (whole, progress) {
        (Progress::NeedMore, None) => {}
        (Progress::End(length), Some((seen, stepped))) => {
            assert_eq!(stepped, whole);
            assert!(length <= seen && seen < length + step);
            let picture = &bytes[..length];
            assert!(picture.starts_with(b"\xFF\xD8"));
            assert_eq!(jpeg::end(picture), Ok(length));
            assert_eq!(jpeg::size(picture).ok(), size.ok());
        }
        (Progress::Broken(_), Some((_, stepped))) => assert_eq!(stepped, whole),
        (whole, stepped) => panic!("{whole:?} at once, {stepped:?} in steps"),
    }
}

/// The cutting into access units. The first byte of `input` says how large a unit may be and whether
/// a sound header and unit come first, the second how many reads follow; then come the length of the
/// index, the index, and the bytes.
///
/// What comes out does not depend on the reads. Each unit is the piece of the bytes behind the last
/// one. Memory stays within its bound. A sound unit in front is found.
pub fn units(input: &[u8]) {
    let [how, reads, high, low, rest @ ..] = input else {
        return;
    };
    let max_unit_bytes = [30, 300, 5000, 70_000][usize::from(how & 3)];
    let (acts, rest) = rest.split_at(usize::from(reads & 15).min(rest.len()));
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (index, bytes) = rest.split_at(length.min(rest.len()));
    let (header, first): (&[u8], &[u8]) = match how >> 2 & 3 {
        0 | 1 => (b"", b""),
        2 => (
            b"#tb 0: 1/90000\n#codec_id 0: h264\n#dimensions 0: 640x360\n0, 0, 0, 1, 11, 0x1\n",
            b"\0\0\x01\x67\x42\0\0\x01\x68\x43\x65",
        ),
        _ => (
            b"#tb 0: 1/90000\n#codec_id 0: hevc\n#dimensions 0: 640x360\n0, 0, 0, 1, 11, 0x1\n",
            b"\0\0\x01\x42\x01\0\0\x01\x44\x01\x26",
        ),
    };
    let (index, bytes) = ([header, index].concat(), [first, bytes].concat());
    let whole = cut_units(max_unit_bytes, &index, &bytes, &[]);
    assert_eq!(whole, cut_units(max_unit_bytes, &index, &bytes, acts));
    let (parts, _) = whole;
    if !first.is_empty() {
        assert!(parts.first().is_some_and(|part| part == first));
    }
    let mut rest = &bytes[..];
    for part in parts {
        let (piece, behind) = rest.split_at(part.len());
        // One that is too large comes as zeros.
        assert!(piece == part || part.len() > max_unit_bytes);
        rest = behind;
    }
}

/// The units and the error that ends them. Reads are as long as `acts` say, round and round.
fn cut_units(
    max_unit_bytes: usize,
    mut index: &[u8],
    mut bytes: &[u8],
    acts: &[u8],
) -> (Vec<Vec<u8>>, Option<String>) {
    let mut acts = acts.iter().cycle();
    let mut read = |room: &mut [u8], pipe: &mut &[u8]| {
        let most = match acts.next() {
            None | Some(250..) => usize::MAX,
            Some(act) => usize::from(*act) + 1,
        };
        let count = most.min(room.len()).min(pipe.len());
        room[..count].copy_from_slice(&pipe[..count]);
        *pipe = &pipe[count..];
        count
    };
    let (mut units, arrival) = (Units::new(max_unit_bytes), Arrival::now());
    let mut parts = vec![];
    loop {
        let filled = match units.room() {
            Ok(room) => read(room, &mut bytes),
            Err(error) => return (parts, Some(error.to_string())),
        };
        match units.filled(filled, arrival) {
            Ok(Some(UnitPart::Unit(unit))) => {
                assert!(unit.width > 0 && unit.height > 0 && unit.bytes.len() <= max_unit_bytes);
                parts.push(unit.bytes.to_vec());
            }
            Ok(Some(UnitPart::Oversize { size, .. })) => {
                assert!(size > max_unit_bytes);
                parts.push(vec![0; size]);
            }
            Ok(None) => {}
            Err(error) => return (parts, Some(error.to_string())),
        }
        let indexed = read(units.index_room(), &mut index);
        units.index_filled(indexed);
        let held = units.held();
        assert!(held <= max_unit_bytes, "{held} bytes");
        if filled == 0 && indexed == 0 {
            return (parts, None);
        }
    }
}

/// What comes from the broker. The first byte of `input` says how large a frame may be and which of
/// the channels 1 and 2 consumes, the second how many reads follow; what is left are the bytes from
/// the broker.
///
/// What reaches amiquip are whole frames within their bounds, which its parser reads or refuses
/// without harm. Neither they nor what others hear depends on the pieces in which the bytes come.
/// No memory grows beyond the largest frame. A broker that steps over its bounds is told why, in
/// one line.
pub fn broker(input: &[u8]) {
    let [how, reads, rest @ ..] = input else {
        return;
    };
    let frame_max = [FRAME_MAX, 4096][usize::from(how & 1)];
    let (acts, bytes) = rest.split_at(usize::from(reads & 15).min(rest.len()));
    let consumer = 1 + u16::from(how >> 1 & 1);
    let at_once = hear(bytes, &[], frame_max, consumer);
    let in_pieces = hear(bytes, acts, frame_max, consumer);
    assert_eq!(at_once, in_pieces);

    let mut passed = at_once.passed.as_slice();
    while let Some((frame, behind)) = Frame::first(passed) {
        assert!(frame.bytes.len() <= frame_max);
        assert_eq!(frame.bytes.last(), Some(&0xce));
        // As amiquip does it.
        let _ = amq_protocol::frame::parse_frame(frame.bytes);
        passed = behind;
    }
    assert!(passed.is_empty(), "half a frame reached amiquip");
    if let Some(refusal) = at_once.refused {
        assert!(refusal.len() < 200, "{refusal}");
        assert!(
            refusal.chars().all(|c| (' '..='~').contains(&c)),
            "{refusal}"
        );
    }
}

/// What came of the bytes from a broker.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// To amiquip, without heartbeats: there is one for each read that brought nothing else.
    passed: Vec<u8>,
    heard: Vec<String>,
    received: Vec<edge_video::amqp::Received>,
    refused: Option<String>,
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn confirmed(&self, confirm: Confirm) {
        self.0.lock().unwrap().push(format!("{confirm:?}"));
    }

    fn returned(&self, message_id: &str) {
        self.0.lock().unwrap().push(message_id.to_owned());
    }

    fn ended(&self) {}
}

fn hear(bytes: &[u8], acts: &[u8], frame_max: usize, consumer: u16) -> Outcome {
    let mut pipe = Pipe {
        stream: bytes,
        given: 0,
        acts,
        calls: 0,
    };
    let (heard, inbox) = (Arc::new(Heard::default()), Arc::new(Inbox::new(256)));
    let listeners = Listeners::default();
    listeners.listen(3 - consumer, Arc::clone(&heard) as _);
    listeners.consume(consumer, Arc::clone(&inbox));
    let mut incoming = Incoming::default();
    incoming.agree(frame_max);
    let (mut passed, mut buf) = (vec![], [0; 1000]);
    let refused = loop {
        match incoming.read(&mut pipe, &listeners, &mut buf) {
            Ok(0) => break None,
            Ok(count) => passed.extend(&buf[..count]),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                break Some(error.to_string());
            }
            Err(_) => {}
        }
        let held = incoming.held();
        assert!(held <= 2 * frame_max + 4096, "{held} bytes");
    };
    assert_eq!(incoming.refused().map(ToString::to_string), refused);
    let mut rest = passed.as_slice();
    let mut frames = vec![];
    while let Some((frame, behind)) = Frame::first(rest) {
        if frame.kind != 8 {
            frames.extend(frame.bytes);
        }
        rest = behind;
    }
    frames.extend(rest);
    let received = std::iter::from_fn(|| inbox.next(Duration::ZERO));
    Outcome {
        passed: frames,
        received: received.collect(),
        heard: std::mem::take(&mut heard.0.lock().unwrap()),
        refused,
    }
}

/// In a text: a password written where a password belongs.
pub const INLINE: &str = "Pw4-inline-77";
/// What every `${NAME}` stands for, and what is in every password file.
const VARIABLE: &str = "Lk3-variable-55";
const FILE: &str = "Rd9-file-31";

/// The configuration loader, on the text of a file.
///
/// What it refuses it refuses in one line each, with a line that the file has, and without showing
/// what a variable stands for. No message, no warning, not the effective configuration and nothing
/// that `Debug` writes holds a password. What it accepts it accepts again from its own effective
/// configuration.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    // A fuzzer learns these too, and what the text itself says outside of its passwords is no
    // secret.
    if text.contains(VARIABLE) || text.contains(FILE) {
        return;
    }
    let out = match parse(text) {
        Ok(loaded) => {
            let yaml = loaded.config.to_yaml();
            let again = parse(&yaml).unwrap_or_else(|errors| panic!("{errors}\n{yaml}"));
            assert_eq!(again.config.cameras.len(), loaded.config.cameras.len());
            format!("{loaded:?}\n{}\n{yaml}", loaded.warnings.join("\n"))
        }
        Err(errors) => {
            let lines = errors.to_string();
            assert_eq!(lines.lines().count(), errors.errors().len(), "{lines}");
            assert!(!errors.errors().is_empty());
            // YAML knows more line breaks than Rust.
            let breaks = text.matches(['\r', '\n', '\u{85}', '\u{2028}', '\u{2029}']);
            let last = breaks.count() + 2;
            let in_file = |line| (1..=last).contains(&line);
            assert!(
                errors
                    .errors()
                    .iter()
                    .all(|it| it.line.is_some_and(in_file)),
                "{lines}"
            );
            // An id is shown wherever its camera is named.
            let mut unsaid = lines
                .lines()
                .filter(|line| !line.contains("is already the id of"));
            assert!(unsaid.all(|line| !line.contains(VARIABLE)), "{lines}");
            lines
        }
    };
    assert!(!out.contains(FILE), "{out}");
    if !out.contains(INLINE) {
        return;
    }
    // Shown by right where it is no password; but nothing tells which it is while the text is no
    // YAML.
    assert!(!out.contains("not valid YAML"), "{out}");
    if let Ok(tree) = serde_yaml::from_str(text) {
        assert!(passwords(&tree) < text.matches(INLINE).count(), "{out}");
    }
}

fn parse(text: &str) -> Result<edge_video::config::Loaded, ConfigErrors> {
    let lookup = |name: &str| (name != "UNSET").then(|| VARIABLE.to_owned());
    let read_file = |path: &Path| match path.to_str() {
        Some("/missing") => Err(io::ErrorKind::NotFound.into()),
        Some("/lines") => Ok(format!("{FILE}\n{FILE}")),
        _ => Ok(format!("{FILE}\n")),
    };
    Config::parse_with(text, "c.yaml", &lookup, &read_file, &|_| true)
}

/// How often [`INLINE`] stands where nothing but a password can be meant.
fn passwords(root: &serde_yaml::Value) -> usize {
    let amqp = root.get("amqp");
    let cameras = root
        .get("cameras")
        .and_then(|cameras| cameras.as_sequence());
    let sections = amqp.into_iter().chain(cameras.into_iter().flatten());
    sections.map(passwords_of).sum()
}

fn passwords_of(section: &serde_yaml::Value) -> usize {
    let text = |key| section.get(key).and_then(serde_yaml::Value::as_str);
    let password = text("password").filter(|text| *text == INLINE).is_some();
    let urls = section.get("urls").and_then(|urls| urls.as_sequence());
    let urls = urls.into_iter().flatten().filter_map(|url| url.as_str());
    let known = ["rtsp", "rtmp", "http", "https", "amqp", "amqps"];
    let with_password = text("url").into_iter().chain(urls).filter(|url| {
        url.split_once("://").is_some_and(|(scheme, rest)| {
            let userinfo = rest
                .rsplit_once('@')
                .and_then(|(userinfo, _)| userinfo.split_once(':'));
            known.contains(&scheme) && userinfo.is_some_and(|(_, password)| password == INLINE)
        })
    });
    usize::from(password) + with_password.count()
}
