//! What the cases came to, as a table for people: `docs/cameras.md`.
//!
//! Each test leaves its row in a folder; the last test of a whole run makes the table of them. It
//! keeps the part about another FFmpeg as it finds it.

use crate::trial::ffmpeg;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the rows are.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cameras");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cameras.md");
/// What comes before the tables.
const HEAD: &str = include_str!("head.md");
/// The files of the tests in the order of the table, with their headings.
const GROUPS: [(&str, &str); 9] = [
    ("start", "Start"),
    ("stamps", "Time stamps"),
    ("changes", "Changes on the way"),
    ("colours", "Colours"),
    ("loss", "Losses"),
    ("late", "What holds pictures back"),
    ("http", "HTTP"),
    ("snapshots", "Snapshot addresses"),
    ("endings", "Sessions and refusals"),
];

/// What one case came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// Source file and line of the test: the order of the table.
    pub file: String,
    pub line: u32,
    pub behaviour: String,
    pub sees: String,
    /// Seconds from the daemon's start to the first picture.
    pub first: Option<f64>,
    pub fps: f64,
    /// What the camera sends.
    pub of: f64,
    pub pictures: usize,
    pub damaged: usize,
    /// Seconds.
    pub oldest: f64,
    pub restarts: u64,
    pub log: Vec<String>,
}

impl Row {
    pub fn write(&self) {
        fs::create_dir_all(FOLDER).unwrap();
        let words = self.behaviour.chars().filter(char::is_ascii_alphanumeric);
        let name = format!(
            "{}-{:04}-{}.json",
            self.stem(),
            self.line,
            words.collect::<String>()
        );
        let json = serde_json::to_vec_pretty(self).unwrap();
        fs::write(Path::new(FOLDER).join(name), json).unwrap();
    }

    fn stem(&self) -> String {
        let stem = Path::new(&self.file).file_stem().unwrap();
        stem.to_string_lossy().into_owned()
    }

    fn group(&self) -> usize {
        let stem = self.stem();
        let group = GROUPS.iter().position(|(file, _)| *file == stem);
        group.unwrap_or_else(|| panic!("no heading for {stem}"))
    }

    fn cells(&self) -> String {
        let log: Vec<_> = self.log.iter().map(|line| code(line)).collect();
        format!(
            "| {} | {} | {} | {:.1} of {} | {} of {} | {:.1} | {} | {} |\n",
            self.behaviour,
            self.sees,
            self.first
                .map_or("–".to_owned(), |first| format!("{first:.1}")),
            self.fps,
            self.of,
            self.damaged,
            self.pictures,
            self.oldest,
            self.restarts,
            if log.is_empty() {
                "nothing".to_owned()
            } else {
                log.join("<br>")
            },
        )
    }
}

/// In a cell of a table a bar ends the cell, in code too.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|").replace('`', "'"))
}

fn rows() -> Vec<Row> {
    let entries = fs::read_dir(FOLDER).expect("rows of a run");
    let mut rows: Vec<Row> = entries
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .map(|row| serde_json::from_slice(&row).unwrap())
        .collect();
    rows.sort_by_key(|row| (row.group(), row.line, row.behaviour.clone()));
    rows
}

/// One FFmpeg's part of the page.
fn part(release: &str, rows: &[Row]) -> String {
    let mut out = format!("## FFmpeg {release}\n\n{}\n", circumstances());
    let mut group = None;
    for row in rows {
        if group != Some(row.group()) {
            group = Some(row.group());
            out += &format!(
                "\n### {}\n\n\
                 | camera | what a user sees | s to the first picture | frames/s | damaged pictures \
                 | oldest, s | restarts | what the log says |\n|---|---|---|---|---|---|---|---|\n",
                GROUPS[row.group()].1
            );
        }
        out += &row.cells();
    }
    out + "\n"
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// On what, with what and when.
fn circumstances() -> String {
    let cores = std::thread::available_parallelism().unwrap();
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    format!(
        "{}, commit {}, {}; {cores} cores, Linux {}; load average {}.",
        output("date", &["-u", "+%F"]),
        output("git", &["rev-parse", "--short", "HEAD"]),
        if cfg!(debug_assertions) {
            "a debug build"
        } else {
            "a release build"
        },
        output("uname", &["-r"]),
        // Of the quarter of an hour in which the tests ran.
        load.split(' ').nth(2).unwrap(),
    )
}

/// 7.1.5 of `ffmpeg version 7.1.5-0+deb13u1 Copyright ...`
fn release() -> String {
    let version = output(&ffmpeg(), &["-version"]);
    let release = version.split(' ').nth(2).unwrap();
    release.split('-').next().unwrap().to_owned()
}

/// Not a test: the last step of `make cameras`.
#[test]
#[ignore = "the last step of make cameras"]
fn write_the_table() {
    let release = release();
    let major = |release: &str| release.split('.').next().unwrap_or_default().to_owned();
    let old = fs::read_to_string(TABLE).unwrap_or_default();
    let parts = old.split("\n## ").skip(1);
    let others = parts.filter_map(|part| part.strip_prefix("FFmpeg "));
    let others = others.filter(|part| major(part) != major(&release));
    let mut parts: Vec<_> = others
        .map(|part| format!("## FFmpeg {}\n\n", part.trim_end()))
        .collect();
    parts.push(part(&release, &rows()));
    parts.sort();
    let page = format!("{HEAD}\n{}", parts.concat());
    fs::write(TABLE, page.trim_end().to_owned() + "\n").unwrap();
}
