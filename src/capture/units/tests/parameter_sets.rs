//! Changes of the parameter sets.

use super::*;

/// A NAL unit behind a start code.
fn nal(header: &[u8], rest: &[u8]) -> Vec<u8> {
    [b"\0\0\0\x01", header, rest].concat()
}

fn h264(nals: &[(u8, &[u8])]) -> Vec<u8> {
    let nals = nals.iter().map(|(kind, rest)| nal(&[kind | 0x60], rest));
    nals.collect::<Vec<_>>().concat()
}

fn h265(nals: &[(u8, &[u8])]) -> Vec<u8> {
    let nals = nals.iter().map(|(kind, rest)| nal(&[kind << 1, 1], rest));
    nals.collect::<Vec<_>>().concat()
}

/// Whether `later` is a change after `first`, both key units.
fn changed(header: &str, first: &[u8], later: &[u8]) -> bool {
    let mut index = header.to_owned();
    for unit in [first, later, later] {
        index += &format!("0, 1, 2, 3, {}, 0x1\n", unit.len());
    }
    match cut(&index, &[first, later, later].concat()) {
        (parts, None) => {
            assert_eq!(parts.len(), 3);
            false
        }
        (parts, Some(error)) => {
            assert_eq!((parts.len(), &error), (1, &UnitError::ParametersChanged));
            assert_eq!(
                error.to_string(),
                "the stream's parameter sets have changed"
            );
            true
        }
    }
}

#[test]
fn a_new_set_of_h264_is_a_change() {
    let first = h264(&[(7, b"sps"), (8, b"pps"), (6, b"sei"), (5, b"slice")]);
    let is_changed = |later: &[(u8, &[u8])]| changed(HEADER, &first, &h264(later));
    assert!(is_changed(&[(7, b"spt"), (8, b"pps"), (5, b"slice")]));
    assert!(is_changed(&[(7, b"sps"), (8, b"pps2"), (5, b"slice")]));
    assert!(is_changed(&[
        (7, b"sps"),
        (8, b"pps"),
        (9, b"x"),
        (7, b"more"),
        (5, b"slice")
    ]));
    assert!(is_changed(&[(8, b"sps"), (5, b"slice")]));
}

#[test]
fn the_same_sets_in_any_order_and_number_are_no_change() {
    let first = h264(&[(7, b"sps"), (8, b"pps"), (5, b"slice")]);
    let is_changed = |later: &[(u8, &[u8])]| changed(HEADER, &first, &h264(later));
    assert!(!is_changed(&[
        (7, b"sps"),
        (8, b"pps"),
        (7, b"sps"),
        (8, b"pps"),
        (5, b"other")
    ]));
    assert!(!is_changed(&[
        (9, b"aud"),
        (8, b"pps"),
        (6, b"sei"),
        (5, b"slice")
    ]));
    assert!(!is_changed(&[(5, b"slice")]));
    // Zeros behind a set belong to no set, and the header's first bits are the set's own.
    assert!(!is_changed(&[
        (7, b"sps\0\0\0"),
        (8, b"pps\0"),
        (5, b"slice")
    ]));
}

#[test]
fn what_is_behind_the_first_slice_is_not_looked_at() {
    let first = h264(&[(7, b"sps"), (5, b"slice"), (8, b"behind")]);
    let later = h264(&[(7, b"sps"), (5, b"slice"), (7, b"other")]);
    assert!(!changed(HEADER, &first, &later));
    let later = h264(&[(8, b"behind"), (1, b"slice")]);
    assert!(changed(HEADER, &first, &later));
}

#[test]
fn a_new_set_of_h265_is_a_change() {
    let header = HEADER.replace("h264", "hevc");
    let sets: [(u8, &[u8]); 3] = [(32, b"vps"), (33, b"sps"), (34, b"pps")];
    let slice: (u8, &[u8]) = (19, b"slice");
    let first = h265(&[&sets[..], &[slice]].concat());
    for set in 0..3 {
        let mut other = sets;
        other[set].1 = b"other";
        let later = h265(&[&other[..], &[slice]].concat());
        assert!(changed(&header, &first, &later), "{set}");
    }
    let later = h265(
        &[
            &[(35, b"aud" as &[u8])],
            &sets[..],
            &[(39, b"sei"), (21, b"cra")],
        ]
        .concat(),
    );
    assert!(!changed(&header, &first, &later));
    let later = h265(&[(21, b"slice"), (33, b"other")]);
    assert!(!changed(&header, &first, &later));
}

#[test]
fn more_sets_than_a_stream_can_need_are_not_kept() {
    let set = |number: u32| {
        nal(
            &[0x67],
            &[&[9; 40][..], &number.to_be_bytes(), b"."].concat(),
        )
    };
    let many = |last| [(0..2999).flat_map(set).collect(), set(last)].concat();
    let (first, later) = (many(2999), many(7777));
    let sets = ParameterSets::of(Codec::H264, &first);
    assert!(sets.include_those_of(Codec::H264, &later));
    assert!(!changed(HEADER, &first, &first));
}
