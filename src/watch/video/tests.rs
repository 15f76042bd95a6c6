use super::*;
use crate::message::{Headers, VideoHeaders};
use std::fs;
use std::path::Path;

/// A unit of a stream with a keyframe every 5 units, 0.2 s apart. Its bytes are its seq.
fn unit(camera: &str, epoch: i64, seq: i64, codec: Codec) -> Received {
    Received {
        headers: Headers {
            camera_id: camera.to_owned().into(),
            epoch,
            seq,
            captured_at_us: 1_000,
            width: 640,
            height: 360,
            video: Some(VideoHeaders {
                key: seq % 5 == 1,
                gop: (seq - 1) / 5 + 1,
                gop_index: ((seq - 1) % 5) as i32,
                pts_us: seq * 200_000,
                codec,
            }),
        },
        jpeg: vec![seq as u8],
    }
}

/// All units of these numbers arrive.
fn arrive(table: &mut VideoTable, camera: &str, epoch: i64, seqs: impl IntoIterator<Item = i64>) {
    for seq in seqs {
        assert!(table.add(unit(camera, epoch, seq, Codec::H264), 3_500));
    }
}

/// A folder of its own for a test, which is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("edge-video-watch-video-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn table(&self) -> VideoTable {
        VideoTable::new(Some(self.0.clone()))
    }

    /// The files and their bytes.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let file = |path: &Path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        };
        let files = fs::read_dir(&self.0).unwrap();
        let mut files: Vec<_> = files.map(|it| file(&it.unwrap().path())).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn file(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.to_vec())
}

#[test]
fn the_table_shows_rate_age_group_gaps_and_broken_groups_per_camera() {
    let mut table = VideoTable::new(None);
    assert!(table.next(1.0).ends_with("\nno video yet"));
    // 4 and 5 are missing, and then 12, which 13 needs.
    arrive(&mut table, "cam1", 1, [1, 2, 3, 6, 7, 8, 9, 10, 11, 13]);
    arrive(&mut table, "cam2", 1, [1, 2]);
    let text = table.next(2.0);
    let lines: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0].join(" "),
        "camera codec size units/s kbit/s GOP s age p50 age p99 gaps broken"
    );
    assert_eq!(
        lines[1].join(" "),
        "cam1 h264 640x360 5.0 0 1.0 2.5 ms 2.5 ms 2 1"
    );
    assert_eq!(
        lines[2].join(" "),
        "cam2 h264 640x360 1.0 0 - 2.5 ms 2.5 ms 0 0"
    );
    let later = table.next(1.0);
    let line = later.lines().nth(1).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    // What is of this period begins anew, the rest stays.
    assert_eq!(words.join(" "), "cam1 h264 640x360 0.0 0 1.0 - - 2 1");
    let mut table = VideoTable::new(None);
    let mut large = unit("cam1", 1, 1, Codec::H265);
    large.jpeg = vec![0; 250_000];
    assert!(table.add(large, 0));
    assert!(
        table
            .next(2.0)
            .contains(" h265   640x360     0.5     1000 ")
    );
}

#[test]
fn a_picture_is_not_counted_as_video() {
    let mut table = VideoTable::new(None);
    let mut picture = unit("cam1", 1, 1, Codec::H264);
    picture.headers.video = None;
    assert!(!table.add(picture, 0));
    assert!(table.next(1.0).ends_with("\nno video yet"));
}

#[test]
fn each_epoch_has_a_file_of_the_units_that_can_be_decoded() {
    let folder = Folder::new("epochs");
    let mut table = folder.table();
    // Begins within a group, loses a whole group, and then one of the units that others need.
    arrive(&mut table, "cam1", 10, [4, 5, 6, 7, 16, 17, 19, 20, 21]);
    arrive(&mut table, "cam1", 20, [3, 6, 7]);
    arrive(&mut table, "cam2", 10, [1]);
    // Of another publisher with the same id.
    arrive(&mut table, "cam1", 10, [26, 27]);
    table.save().unwrap();
    assert_eq!(
        folder.files(),
        [
            file("cam1-10.h264", &[6, 7, 16, 17, 21]),
            file("cam1-20.h264", &[6, 7]),
            file("cam2-10.h264", &[1]),
        ]
    );
}

#[test]
fn what_was_missed_without_a_connection_is_no_fault_of_the_publisher_and_not_in_the_file() {
    let folder = Folder::new("connected");
    let mut table = folder.table();
    arrive(&mut table, "cam1", 1, [1, 2, 3]);
    table.connected();
    arrive(&mut table, "cam1", 1, [9, 10, 11, 12]);
    assert!(table.next(1.0).ends_with("      0      0"));
    assert_eq!(folder.files(), [file("cam1-1.h264", &[1, 2, 3, 11, 12])]);
}

#[test]
fn h265_after_a_gap_begins_a_new_sequence_in_the_file() {
    let folder = Folder::new("sequence");
    let mut table = folder.table();
    for seq in [1, 2, 6, 11, 12] {
        assert!(table.add(unit("cam1", 1, seq, Codec::H265), 0));
    }
    let end = [0, 0, 0, 1, 0x48, 1];
    let expected = [&[1, 2][..], &end, &[6], &end, &[11, 12]].concat();
    assert_eq!(folder.files(), [file("cam1-1.h265", &expected)]);
}

#[test]
fn a_file_of_another_run_and_a_link_are_left_alone() {
    let folder = Folder::new("other");
    let victim = folder.0.join("victim");
    fs::write(&victim, "mine").unwrap();
    std::os::unix::fs::symlink(&victim, folder.0.join("cam1-1-2.h264")).unwrap();
    fs::write(folder.0.join("cam1-1.h264"), "of yesterday").unwrap();
    let mut table = folder.table();
    arrive(&mut table, "cam1", 1, [1, 2]);
    table.save().unwrap();
    assert_eq!(
        folder.files(),
        [
            file("cam1-1-2.h264", b"mine"),
            file("cam1-1-3.h264", &[1, 2]),
            file("cam1-1.h264", b"of yesterday"),
            file("victim", b"mine"),
        ]
    );
}

#[test]
fn a_file_that_cannot_be_written_is_said_and_the_next_keyframe_is_tried() {
    let folder = Folder::new("full");
    let inside = folder.0.join("in");
    let mut table = VideoTable::new(Some(inside.clone()));
    arrive(&mut table, "cam1", 1, [1, 2]);
    assert_eq!(table.save().unwrap_err().kind(), io::ErrorKind::NotFound);
    table.save().unwrap();
    fs::create_dir(&inside).unwrap();
    // The stream goes on without a gap.
    arrive(&mut table, "cam1", 1, 3..=7);
    table.save().unwrap();
    assert_eq!(fs::read(inside.join("cam1-1.h264")).unwrap(), [6, 7]);
}

#[test]
fn a_camera_id_cannot_lead_out_of_the_folder_or_reach_the_terminal() {
    let folder = Folder::new("id");
    let inside = folder.0.join("in");
    fs::create_dir(&inside).unwrap();
    let mut table = VideoTable::new(Some(inside.clone()));
    for id in ["../out", "a\0b\x1b[2Jc\n", &"x".repeat(10_000)] {
        arrive(&mut table, id, -1, [1]);
    }
    table.save().unwrap();
    let files = fs::read_dir(inside).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    let longest = format!("{}--1.h264", "x".repeat(64));
    assert_eq!(names, [".._out--1.h264", "a_b_[2Jc_--1.h264", &longest]);
    let shown = table.next(1.0);
    let harmless = |c: char| c == '\n' || (' '..='~').contains(&c);
    assert!(shown.chars().all(harmless), "{shown}");
}

#[test]
fn what_publishers_invent_has_a_bound() {
    let folder = Folder::new("bound");
    let mut table = folder.table();
    for n in 0..MOST_CAMERAS + 10 {
        arrive(&mut table, &format!("cam{n}"), 1, [1]);
    }
    assert_eq!(table.cameras.len(), MOST_CAMERAS);
    let failure = table.save().unwrap_err().to_string();
    assert_eq!(failure, "only the first 512 cameras are saved");
    assert_eq!(folder.files().len(), MOST_SAVED);
    for (epoch, captured) in [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)] {
        let mut extreme = unit("cam0", epoch, 1, Codec::H264);
        extreme.headers.captured_at_us = captured;
        assert!(table.add(extreme, i64::MAX));
    }
    table.next(1.0);
}
