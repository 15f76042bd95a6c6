//! Tests of the cutting into access units, with played and with real output of FFmpeg.

mod made_by_ffmpeg;
mod parameter_sets;

use super::*;
use proptest::prelude::*;

const MAX: usize = 1024 * 1024;
const HEADER: &str = "#extradata 0:       38, 0x7e660846\n#software: Lavf59.27.100\n\
#tb 0: 1/90000\n#media_type 0: video\n#codec_id 0: h264\n#dimensions 0: 640x360\n#sar 0: 1/1\n";
const KEY: &[u8] = b"\0\0\0\x01\x67set\0\0\0\x01\x68set\0\0\x01\x65slice";
const DELTA: &[u8] = b"\0\0\0\x01\x41slice";

/// A part with its own bytes, without its arrival.
#[derive(Debug, Clone, PartialEq)]
enum Cut {
    Unit {
        key: bool,
        dts_us: Option<i64>,
        pts_us: i64,
        format: (Codec, u16, u16),
        bytes: Vec<u8>,
    },
    Oversize {
        key: bool,
        size: usize,
    },
}

impl From<Part<'_>> for Cut {
    fn from(part: Part<'_>) -> Self {
        match part {
            Part::Oversize { key, size } => Self::Oversize { key, size },
            Part::Unit(it) => Self::Unit {
                key: it.key,
                dts_us: it.dts_us,
                pts_us: it.pts_us,
                format: (it.codec, it.width, it.height),
                bytes: it.bytes.to_vec(),
            },
        }
    }
}

impl Cut {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Unit { bytes, .. } => bytes,
            Self::Oversize { .. } => &[],
        }
    }
}

type Outcome = (Vec<Cut>, Option<UnitError>);

/// Reads both pipes to their ends, `reads` bytes at a time, round and round.
fn cut_in(units: &mut Units, mut index: &[u8], mut bytes: &[u8], reads: &[usize]) -> Outcome {
    let mut reads = reads.iter().copied().cycle();
    let mut read = move |room: &mut [u8], pipe: &mut &[u8]| {
        let count = reads.next().unwrap().min(room.len()).min(pipe.len());
        room[..count].copy_from_slice(&pipe[..count]);
        *pipe = &pipe[count..];
        count
    };
    let mut parts = vec![];
    loop {
        let filled = match units.room() {
            Ok(room) => read(room, &mut bytes),
            Err(error) => return (parts, Some(error)),
        };
        match units.filled(filled, Arrival::now()) {
            Ok(part) => parts.extend(part.map(Cut::from)),
            Err(error) => return (parts, Some(error)),
        }
        let indexed = read(units.index_room(), &mut index);
        units.index_filled(indexed);
        assert!(units.held() <= units.max_unit_bytes);
        if filled == 0 && indexed == 0 {
            let waits = units.room().is_ok_and(|room| !room.is_empty());
            assert!(index.is_empty() || waits, "the index is not read");
            return (parts, None);
        }
    }
}

fn cut(index: &str, bytes: &[u8]) -> Outcome {
    cut_in(&mut Units::new(MAX), index.as_bytes(), bytes, &[usize::MAX])
}

/// An index with `header` and a line for each unit, and their bytes. The first unit is key, and
/// each other that has more than one NAL unit.
fn stream(header: &str, units: &[&[u8]]) -> (String, Vec<u8>) {
    let mut index = header.to_owned();
    for (number, unit) in units.iter().enumerate() {
        let key = number == 0 || unit.windows(3).filter(|it| *it == [0, 0, 1]).count() > 1;
        let time = number * 6000;
        let flags = if key { "" } else { ", F=0x0" };
        let size = unit.len();
        index += &format!(
            "0, {time:10}, {:10},     6000, {size:8}, 0x12345678{flags}\n",
            time + 90
        );
    }
    (index, units.concat())
}

/// What a line alone gives, in a stream whose first unit was well.
fn after_line(line: &str, bytes: &[u8]) -> Outcome {
    let (index, first) = stream(HEADER, &[KEY]);
    let (mut parts, error) = cut(&(index + line), &[&first, bytes].concat());
    assert_eq!(parts.remove(0).bytes(), KEY);
    (parts, error)
}

#[test]
fn each_unit_comes_with_its_times_its_size_and_the_arrival_of_its_first_byte() {
    let (index, bytes) = stream(HEADER, &[KEY, DELTA]);
    let unit = |key, dts_us, bytes: &[u8]| Cut::Unit {
        key,
        dts_us: Some(dts_us),
        pts_us: dts_us + 1000,
        format: (Codec::H264, 640, 360),
        bytes: bytes.to_vec(),
    };
    let expected = vec![unit(true, 0, KEY), unit(false, 66_666, DELTA)];
    assert_eq!(cut(&index, &bytes), (expected, None));

    let mut units = Units::new(MAX);
    give_index(&mut units, &index);
    let arrivals: Vec<_> = KEY.iter().map(|_| Arrival::now()).collect();
    assert!(arrivals[0] != arrivals[arrivals.len() - 1]);
    for (byte, arrival) in KEY.iter().zip(&arrivals) {
        units.room().unwrap()[0] = *byte;
        if let Some(Part::Unit(unit)) = units.filled(1, *arrival).unwrap() {
            assert_eq!((unit.bytes, unit.first_byte), (KEY, arrivals[0]));
        }
    }
    assert_eq!(units.room().unwrap().len(), DELTA.len());
}

fn give_index(units: &mut Units, text: &str) {
    let room = units.index_room();
    room[..text.len()].copy_from_slice(text.as_bytes());
    units.index_filled(text.len());
}

#[test]
fn bytes_are_read_neither_without_a_line_nor_beyond_their_unit() {
    let mut units = Units::new(MAX);
    assert!(units.room().unwrap().is_empty());
    assert_eq!(units.filled(10, Arrival::now()), Ok(None));
    let (index, _) = stream(HEADER, &[KEY, DELTA]);
    let (torn, rest) = index.split_at(HEADER.len() + 10);
    give_index(&mut units, torn);
    assert!(units.room().unwrap().is_empty());
    give_index(&mut units, rest);
    assert_eq!(units.room().unwrap().len(), KEY.len());
    assert_eq!(units.filled(3, Arrival::now()), Ok(None));
    assert_eq!(units.room().unwrap().len(), KEY.len() - 3);
}

#[test]
fn an_index_far_ahead_of_its_bytes_waits_in_its_pipe() {
    let (index, bytes) = stream(HEADER, &[&[KEY][..], &[DELTA; 500]].concat());
    let mut units = Units::new(MAX);
    let (none, mut given) = (cut_in(&mut units, index.as_bytes(), b"", &[1000]), 0);
    assert_eq!(none, (vec![], None));
    assert!(units.index_room().is_empty());
    // What the pipe still holds.
    given += HEADER.len();
    let first = index[given..].find('\n').unwrap() + 1;
    given += first + index::CAPACITY;
    let (parts, error) = cut_in(&mut units, &index.as_bytes()[given..], &bytes, &[77]);
    assert_eq!((parts.len(), error), (501, None));
}

#[test]
fn a_unit_without_a_flag_is_key_and_one_with_flags_if_bit_0_says_so() {
    for (flags, key) in [
        ("", true),
        (", F=0x0", false),
        (", F=0x1", true),
        (", F=0x5", true),
        (", F=0x10", false),
        (", S=1,       16, 0x0a0b0c0d", true),
        (
            ", F=0x0, S=1, Producer Reference Time,       16, 0x0a0b0c0d",
            false,
        ),
    ] {
        let line = format!("0, 1, 2, 3, {}, 0x1{flags}\n", DELTA.len());
        let (parts, error) = after_line(&line, DELTA);
        assert!(
            matches!(parts[..], [Cut::Unit { key: it, .. }] if it == key),
            "{flags}"
        );
        assert_eq!(error, None);
    }
}

#[test]
fn times_are_exact_and_missing_or_huge_ones_do_no_harm() {
    const NONE: &str = "-9223372036854775808";
    for (base, dts, pts, expected) in [
        ("1/90000", "1", "3003", (Some(11), 33_366)),
        ("1/90000", "-1", "-90000", (Some(-12), -1_000_000)),
        ("1001/30000", "-1", "30000", (Some(-33_367), 1_001_000_000)),
        (
            "1/1000000",
            "9223372036854775807",
            "-9223372036854775807",
            (Some(i64::MAX), -i64::MAX),
        ),
        (
            "2147483647/1",
            "9223372036854775807",
            "-9223372036854775807",
            (Some(i64::MAX), i64::MIN),
        ),
        ("1/1000", "5", NONE, (Some(5000), 5000)),
        ("1/1000", NONE, "7", (None, 7000)),
        ("1/1000", "NOPTS", NONE, (None, 0)),
    ] {
        let header = HEADER.replace("1/90000", base);
        let line = format!("{header}0, {dts}, {pts}, 1, {}, 0x1\n", KEY.len());
        let (parts, error) = cut(&line, KEY);
        let [Cut::Unit { dts_us, pts_us, .. }] = parts[..] else {
            panic!("{line}: {parts:?} {error:?}")
        };
        assert_eq!((dts_us, pts_us), expected, "{line}");
    }
}

#[test]
fn a_line_that_is_none_is_told() {
    const NEITHER: &str = "FFmpeg's index is torn: a line is neither a header's nor a unit's";
    for line in [
        "",
        "0, 1, 2, 3, 4",
        "0, 1, 2, 3, 4, 1234",
        "0, 1, 2, 3, -4, 0x1234",
        "0, 1, 2, 3, 2147483648, 0x1234",
        "0, 1, 2, 3, 99999999999999999999, 0x1234",
        "0, 1, 9223372036854775808, 3, 4, 0x1234",
        "0, 1, 2, 3, 4, 0x123456780",
        "0, 1, 2, 3, 4, 0x1234, F=0x",
        "0, 1, 2, 3, 4, 0x1234, 0",
        "1, 1, 2, 3, 4, 0x1234",
        "4, 0x1234, F=0x0",
        "[out#0/framecrc @ 0x55] Error",
    ] {
        let (parts, error) = after_line(&format!("{line}\n"), b"");
        assert_eq!(
            (parts, error.unwrap().to_string()),
            (vec![], NEITHER.to_owned()),
            "{line}"
        );
    }
    let (index, bytes) = stream(HEADER, &[KEY]);
    let index = [index.as_bytes(), b"#\xff\n"].concat();
    let (_, error) = cut_in(&mut Units::new(MAX), &index, &bytes, &[usize::MAX]);
    assert_eq!(error.unwrap().to_string(), NEITHER);
}

#[test]
fn a_header_that_says_nonsense_or_too_little_is_told() {
    for (from, to, what) in [
        ("1/90000", "1/0", "the time base is not a positive fraction"),
        ("1/90000", "0/1", "the time base is not a positive fraction"),
        (
            "1/90000",
            "-1/25",
            "the time base is not a positive fraction",
        ),
        ("1/90000", "1", "the time base is not a positive fraction"),
        (
            "640x360",
            "0x360",
            "the dimensions are not from 1 to 65535 pixels",
        ),
        (
            "640x360",
            "640x65536",
            "the dimensions are not from 1 to 65535 pixels",
        ),
        (
            "640x360",
            "640",
            "the dimensions are not from 1 to 65535 pixels",
        ),
        (
            "#tb",
            "#bt",
            "a unit comes before time base, codec and dimensions",
        ),
        (
            "#codec_id",
            "#codec",
            "a unit comes before time base, codec and dimensions",
        ),
        (
            "#dimensions",
            "#size",
            "a unit comes before time base, codec and dimensions",
        ),
    ] {
        let (index, bytes) = stream(&HEADER.replace(from, to), &[KEY]);
        let (parts, error) = cut(&index, &bytes);
        let what = format!("FFmpeg's index is torn: {what}");
        assert_eq!((parts, error.unwrap().to_string()), (vec![], what), "{to}");
    }
    let (index, bytes) = stream(&HEADER.replace("640x360", "65535x1"), &[KEY]);
    assert_eq!(cut(&index, &bytes).1, None);
}

#[test]
fn a_line_of_4_kib_is_read_and_a_longer_one_told() {
    let line = |length: usize| format!("#{}\n", "x".repeat(length - 2));
    let (index, bytes) = stream(HEADER, &[KEY]);
    let (parts, error) = cut(&(line(4096) + &index), &bytes);
    assert_eq!((parts.len(), error), (1, None));
    let (parts, error) = cut(&(line(4097) + &index), &bytes);
    let words = "FFmpeg's index is torn: a line is longer than 4 KiB";
    assert_eq!((parts.len(), &*error.unwrap().to_string()), (0, words));
}

#[test]
fn a_codec_that_is_no_h264_or_h265_is_named() {
    for (codec, name) in [
        ("mjpeg", "mjpeg"),
        ("none\x1b[31m", "none[31m"),
        (&*"x".repeat(2000), &*"x".repeat(32)),
    ] {
        let header = HEADER.replace("h264", codec);
        let error = cut(&header, b"").1.unwrap();
        let words = format!("the stream is {name}, but only H.264 and H.265 can be passed through");
        assert_eq!(error.to_string(), words);
        assert!(matches!(error, UnitError::NotVideo { .. }));
    }
}

#[test]
fn a_unit_that_is_too_large_is_read_without_memory_and_reported() {
    let large = [KEY, &vec![7; 300_000]].concat();
    let (index, bytes) = stream(HEADER, &[KEY, &large, DELTA]);
    let mut units = Units::new(1000);
    let (parts, error) = cut_in(&mut units, index.as_bytes(), &bytes, &[usize::MAX, 700]);
    assert_eq!(error, None);
    let size = large.len();
    assert_eq!(parts[1], Cut::Oversize { key: true, size });
    assert_eq!((parts[0].bytes(), parts[2].bytes()), (KEY, DELTA));
    assert!(units.held() <= 1000, "{}", units.held());
    assert_eq!(parts.len(), 3);
    let (parts, _) = cut_in(
        &mut Units::new(size),
        index.as_bytes(),
        &bytes,
        &[usize::MAX],
    );
    assert_eq!(parts[1].bytes(), large);
}

#[test]
fn a_delimiter_alone_is_no_picture() {
    const DELIMITER: &[u8] = b"\0\0\0\x01\x09\x10";
    let has_picture = |unit: &[u8]| annex_b::has_picture(Codec::H264, unit);
    assert!(!has_picture(DELIMITER));
    assert!(!has_picture(b"") && !has_picture(b"\0\0\x01"));
    assert!(has_picture(&[DELIMITER, DELTA].concat()) && has_picture(KEY));
    assert!(!annex_b::has_picture(Codec::H265, b"\0\0\x01\x46\x01"));
    assert!(annex_b::has_picture(
        Codec::H265,
        b"\0\0\x01\x46\x01\0\0\x01\x02\x01"
    ));
}

#[test]
fn a_unit_without_bytes_is_none() {
    let (parts, error) = after_line("0, 1, 2, 3, 0, 0x0\n0, 1, 2, 3, 10, 0x1, F=0x0\n", DELTA);
    assert_eq!((parts.len(), parts[0].bytes(), error), (1, DELTA, None));
}

#[test]
fn a_line_that_lies_about_its_size_shows_at_the_next_unit() {
    // One byte more would leave a start code of three bytes.
    for size in [DELTA.len() - 1, DELTA.len() + 2] {
        let line = format!("0, 1, 2, 3, {size}, 0x1, F=0x0\n0, 1, 2, 3, 10, 0x1, F=0x0\n");
        let (parts, error) = after_line(&line, &DELTA.repeat(3));
        let words = "FFmpeg's index is torn: a unit does not begin with a start code";
        assert_eq!((parts.len(), &*error.unwrap().to_string()), (1, words));
    }
}

#[test]
fn units_with_lengths_are_told_apart_at_the_first_key_unit() {
    // In front of a key unit FFmpeg puts the `avcC` or `hvcC` box, whose first byte is 1.
    let key = b"\x01\x64\0\x0a\xff\0\0\0\x05\x65slice";
    for (header, codec, words) in [
        (
            HEADER.to_owned(),
            Codec::H264,
            "the stream's h264 has no start codes",
        ),
        (
            HEADER.replace("h264", "hevc"),
            Codec::H265,
            "the stream's h265 has no start codes",
        ),
    ] {
        let (index, bytes) = stream(&header, &[key]);
        let (parts, error) = cut(&index, &bytes);
        let error = error.unwrap();
        assert_eq!((parts, &error), (vec![], &UnitError::LengthPrefixed(codec)));
        assert_eq!(error.to_string(), words);
    }
    // The rest of a unit, before the first key unit.
    let index = format!(
        "{HEADER}0, 1, 2, 3, 4, 0x1, F=0x0\n0, 1, 2, 3, {}, 0x1\n",
        KEY.len()
    );
    let (parts, error) = cut(&index, &[b"rest", KEY].concat());
    assert_eq!((parts.len(), error), (2, None));
}

#[test]
fn units_cost_no_allocation_once_the_largest_has_come() {
    let (index, bytes) = stream(HEADER, &[KEY, DELTA, DELTA, KEY, DELTA]);
    let lines = index.strip_prefix(HEADER).unwrap().as_bytes();
    let mut units = Units::new(MAX);
    cut_in(&mut units, index.as_bytes(), &bytes, &[usize::MAX]);
    let arrival = Arrival::now();
    let counted = allocation_counter::measure(|| {
        units.index_room()[..lines.len()].copy_from_slice(lines);
        units.index_filled(lines.len());
        let mut rest = &bytes[..];
        while let Ok(room @ [_, ..]) = units.room() {
            let (unit, behind) = rest.split_at(room.len());
            room.copy_from_slice(unit);
            rest = behind;
            let part = units.filled(unit.len(), arrival).unwrap();
            assert!(matches!(part, Some(Part::Unit(it)) if it.bytes == unit));
        }
        assert!(rest.is_empty());
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn memory_is_given_back_but_for_the_unit_that_is_being_read() {
    let large = [DELTA, &vec![7; 300_000]].concat();
    let (index, bytes) = stream(HEADER, &[KEY, &large, DELTA]);
    let mut units = Units::new(MAX);
    cut_in(
        &mut units,
        index.as_bytes(),
        &bytes[..bytes.len() - 3],
        &[usize::MAX],
    );
    assert!(units.held() >= 300_000, "{}", units.held());
    units.release();
    assert_eq!(units.held(), DELTA.len());
    let (parts, _) = cut_in(&mut units, b"", &bytes[bytes.len() - 3..], &[1]);
    assert_eq!(parts[0].bytes(), DELTA);
    units.release();
    assert_eq!(units.held(), 0);
}

proptest! {
    #[test]
    fn however_index_and_bytes_are_cut_into_reads_the_same_units_come(
        sizes in prop::collection::vec(0..3000usize, 1..20),
        keys in prop::collection::vec(any::<bool>(), 20),
        max_unit_bytes in 1000..4000usize,
        reads in prop::collection::vec(1..5000usize, 1..20),
    ) {
        let units = sizes.iter().zip(keys).map(|(size, key)| {
            [if key { KEY } else { DELTA }, &vec![9; *size]].concat()
        });
        let units: Vec<_> = units.collect();
        let units: Vec<_> = units.iter().map(Vec::as_slice).collect();
        // The last slice of a key unit is no set, so the sets stay the same.
        let (index, bytes) = stream(HEADER, &[&[KEY], &units[..]].concat());
        let cut = |reads: &[usize]| {
            cut_in(&mut Units::new(max_unit_bytes), index.as_bytes(), &bytes, reads)
        };
        let (parts, error) = cut(&reads);
        prop_assert_eq!(&error, &None);
        prop_assert_eq!(parts.len(), units.len() + 1);
        for (part, unit) in parts.iter().skip(1).zip(&units) {
            match part {
                Cut::Unit { bytes, .. } => prop_assert_eq!(bytes, unit),
                Cut::Oversize { size, .. } => {
                    prop_assert_eq!(*size, unit.len());
                    prop_assert!(*size > max_unit_bytes);
                }
            }
        }
        prop_assert_eq!(cut(&[usize::MAX]), (parts, error));
    }

    #[test]
    fn whatever_is_in_both_pipes_memory_is_bounded_and_reads_change_nothing(
        lines in prop::collection::vec(line(), 0..20),
        bytes in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..800),
        max_unit_bytes in 0..600usize,
        reads in prop::collection::vec(1..5000usize, 1..20),
    ) {
        let index = lines.concat();
        let whole = cut_in(&mut Units::new(max_unit_bytes), &index, &bytes, &[usize::MAX]);
        let cut = cut_in(&mut Units::new(max_unit_bytes), &index, &bytes, &reads);
        prop_assert_eq!(whole, cut);
    }
}

/// A line of an index, or something like it.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(HEADER.into()),
        "0, -?[0-9]{1,19}, -?[0-9]{1,19}, 1, [0-9]{1,3}, 0x1(, F=0x[01])?\n"
            .prop_map(String::into_bytes),
        "#(tb|codec_id|dimensions) 0: ([0-9]{1,6}[/x][0-9]{1,6}|hevc|h264)\n"
            .prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}
