//! Shows the table of the pictures that arrived, and saves them.

use super::View;
use crate::amqp::Received;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// More cameras are not shown: the publisher chooses the id, and may invent any number.
pub(super) const MOST_CAMERAS: usize = 1024;
/// Longest id of a camera, in characters, as in the configuration.
const LONGEST_ID: usize = 64;

/// The pictures.
#[derive(Debug)]
pub(super) struct Table {
    folder: Option<PathBuf>,
    cameras: BTreeMap<String, Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// Arrival minus capture, µs, of each frame of this period.
    ages: Vec<i64>,
    bytes: usize,
    size: (i32, i32),
    /// Since the watch began.
    frames: u64,
    missing: i64,
    last: Option<(i64, i64)>,
    picture: Option<Vec<u8>>,
}

impl Table {
    /// The newest pictures go to `folder`, if there is one.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            cameras: BTreeMap::new(),
        }
    }
}

impl View for Table {
    fn add(&mut self, received: Received, now_us: i64) -> bool {
        let headers = received.headers;
        if headers.video.is_some() {
            return false;
        }
        if self.cameras.len() >= MOST_CAMERAS && !self.cameras.contains_key(&*headers.camera_id) {
            return true;
        }
        let line = self
            .cameras
            .entry(headers.camera_id.into_owned())
            .or_default();
        line.ages
            .push(now_us.saturating_sub(headers.captured_at_us));
        line.bytes += received.jpeg.len();
        line.size = (headers.width, headers.height);
        line.frames += 1;
        if let Some((epoch, seq)) = line.last
            && epoch == headers.epoch
        {
            let gap = headers.seq.saturating_sub(seq).saturating_sub(1);
            line.missing = line.missing.saturating_add(gap.max(0));
        }
        line.last = Some((headers.epoch, headers.seq));
        if self.folder.is_some() {
            line.picture = Some(received.jpeg);
        }
        true
    }

    fn next(&mut self, seconds: f64) -> String {
        let mut text = format!(
            "{:<20} {:>9} {:>6} {:>8} {:>10} {:>10} {:>9} {:>8}",
            "camera", "size", "fps", "KB", "age p50", "age p99", "frames", "missing"
        );
        for (id, line) in &mut self.cameras {
            let count = line.ages.len();
            line.ages.sort_unstable();
            let _ = write!(
                text,
                "\n{:<20} {:>9} {:>6.1} {:>8.1} {:>10} {:>10} {:>9} {:>8}",
                plain(id, '?'),
                format!("{}x{}", line.size.0, line.size.1),
                count as f64 / seconds,
                line.bytes as f64 / 1000.0 / count.max(1) as f64,
                milliseconds(percentile(&line.ages, 50)),
                milliseconds(percentile(&line.ages, 99)),
                line.frames,
                line.missing,
            );
            line.ages.clear();
            line.bytes = 0;
        }
        if self.cameras.is_empty() {
            text += "\nno frame yet";
        }
        text
    }

    /// Writes the newest picture of each camera, so that a reader sees a whole one at any time.
    fn save(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        let Some(folder) = &self.folder else {
            return result;
        };
        for (id, line) in &mut self.cameras {
            if let Some(picture) = line.picture.take() {
                result = result.and(save(folder, &plain(id, '_'), &picture));
            }
        }
        result
    }
}

/// Follows no link that others put into the folder: the new file is one that was not there before,
/// and a rename takes the place of a link, not of what it points to.
fn save(folder: &Path, name: &str, picture: &[u8]) -> io::Result<()> {
    let new = folder.join(format!(".{name}.jpg.{}.new", std::process::id()));
    let create = || File::options().write(true).create_new(true).open(&new);
    let mut file = match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&new)?;
            create()?
        }
        created => created?,
    };
    file.write_all(picture)
        .and_then(|()| std::fs::rename(&new, folder.join(format!("{name}.jpg"))))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&new);
        })
}

/// A camera's id without what a terminal obeys or a path is made of: anybody may have published it.
pub(super) fn plain(id: &str, instead: char) -> String {
    let visible = |c: char| c.is_ascii_graphic() && c != '/';
    id.chars()
        .take(LONGEST_ID)
        .map(|c| if visible(c) { c } else { instead })
        .collect()
}

/// The nearest-rank percentile of sorted values.
pub(super) fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

pub(super) fn milliseconds(us: Option<i64>) -> String {
    us.map_or_else(
        || "-".to_owned(),
        |us| format!("{:.1} ms", us as f64 / 1000.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;
    use std::path::PathBuf;

    fn received(camera: &str, epoch: i64, seq: i64, captured_at_us: i64) -> Received {
        Received {
            headers: Headers {
                camera_id: camera.to_owned().into(),
                epoch,
                seq,
                captured_at_us,
                width: 640,
                height: 360,
                video: None,
            },
            jpeg: vec![0; 2000],
        }
    }

    #[test]
    fn the_table_shows_age_size_and_gaps_per_camera() {
        let mut table = Table::new(None);
        for (seq, epoch) in [(1, 1), (2, 1), (5, 1), (9, 2), (10, 2)] {
            table.add(received("cam1", epoch, seq, 1_000), 3_500);
        }
        table.add(received("cam2", 1, 1, 0), 1_000);
        let text = table.next(2.0);
        let words = |n: usize| {
            text.lines()
                .nth(n)
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
        };
        // A new epoch is no gap: seq starts from 1 in it.
        assert_eq!(words(1)[1], "640x360");
        assert_eq!(
            words(1)[2..],
            ["2.5", "2.0", "2.5", "ms", "2.5", "ms", "5", "2"]
        );
        assert_eq!(
            words(2)[2..],
            ["0.5", "2.0", "1.0", "ms", "1.0", "ms", "1", "0"]
        );
        assert_eq!(
            table
                .next(2.0)
                .lines()
                .nth(1)
                .unwrap()
                .split_whitespace()
                .nth(4),
            Some("-")
        );
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<i64> = (1..=100).collect();
        assert_eq!(percentile(&values, 50), Some(50));
        assert_eq!(percentile(&values, 99), Some(99));
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    /// A folder of its own for a test, which is removed in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("edge-video-watch-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(folder.join("in")).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_camera_id_cannot_lead_out_of_the_folder_or_reach_the_terminal() {
        let folder = Folder::new("id");
        let mut table = Table::new(Some(folder.0.join("in")));
        let long = "x".repeat(10_000);
        for id in ["../out", "..", "a\0b\x1b[2Jc\u{9b}d\n", &long] {
            table.add(received(id, 1, 1, 0), 0);
        }
        table.save().unwrap();
        let files = std::fs::read_dir(folder.0.join("in")).unwrap();
        let mut files: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let longest = format!("{}.jpg", "x".repeat(64));
        assert_eq!(files, ["...jpg", ".._out.jpg", "a_b_[2Jc_d_.jpg", &longest]);
        assert!(!folder.0.join("out.jpg").exists());
        let shown = table.next(2.0);
        assert!(shown.contains("\na?b?[2Jc?d? "), "{shown}");
        let harmless = |c: char| c == '\n' || (' '..='~').contains(&c);
        assert!(shown.chars().all(harmless), "{shown}");
    }

    #[test]
    fn a_link_in_the_folder_is_replaced_and_not_followed() {
        let folder = Folder::new("link");
        let victim = folder.0.join("victim");
        std::fs::write(&victim, "mine").unwrap();
        let inside = folder.0.join("in");
        let new = format!(".cam1.jpg.{}.new", std::process::id());
        for link in ["cam1.jpg", &new] {
            std::os::unix::fs::symlink(&victim, inside.join(link)).unwrap();
        }
        let mut table = Table::new(Some(inside.clone()));
        table.add(received("cam1", 1, 1, 0), 0);
        table.save().unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
        let picture = inside.join("cam1.jpg");
        assert!(!picture.is_symlink());
        assert_eq!(std::fs::read(picture).unwrap().len(), 2000);
        // One that cannot be written is said, and the others are still written.
        std::fs::create_dir(inside.join("cam0.jpg")).unwrap();
        for id in ["cam0", "cam2"] {
            table.add(received(id, 1, 1, 0), 0);
        }
        let failed = table.save().unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::IsADirectory);
        assert!(inside.join("cam2.jpg").exists());
        let left = std::fs::read_dir(&inside).unwrap().count();
        assert_eq!(left, 3, "no half-written file stays");
    }

    #[test]
    fn what_publishers_invent_has_a_bound_and_overflows_nothing() {
        let mut table = Table::new(None);
        for n in 0..MOST_CAMERAS + 10 {
            table.add(received(&format!("cam{n}"), 1, 1, 0), 0);
        }
        assert_eq!(table.cameras.len(), MOST_CAMERAS);
        for (seq, captured) in [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX), (i64::MIN, 0)] {
            for _ in 0..2 {
                table.add(received("cam0", 2, seq, captured), i64::MAX);
            }
        }
        table.next(2.0);
    }
}
