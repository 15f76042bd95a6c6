//! What the faults came to, as a table for people: `docs/faults.md`.
//!
//! Each test leaves its row in a folder; the last test of a whole run makes the table of them. It
//! keeps the part about another broker's release as it finds it.

use crate::support::rabbit::Rabbit;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the rows are.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/faults");
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");

/// What one fault came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// Source file and line of the test: the order of the table.
    pub file: String,
    pub line: u32,
    pub fault: String,
    /// What the user sees in the log.
    pub log: Vec<String>,
    pub lost: String,
    /// Seconds from the fault's end to the first fresh frame of the last camera, or to the
    /// program's end.
    pub recovery: f64,
    /// Before and after.
    pub rss_mb: [f64; 2],
    /// 99th percentile from capture to the consumer: before the fault, and of the cameras that it
    /// does not concern during it; of all after it where it concerns all.
    pub p99_ms: [f64; 2],
}

impl Row {
    pub fn write(&self) {
        let file = Path::new(&self.file).file_stem().unwrap().to_string_lossy();
        fs::create_dir_all(FOLDER).unwrap();
        // Of a line that makes several each has its own.
        let words = self.fault.chars().filter(char::is_ascii_alphanumeric);
        let name = format!("{file}-{:04}-{}.json", self.line, words.collect::<String>());
        let path = Path::new(FOLDER).join(name);
        fs::write(path, serde_json::to_vec_pretty(self).unwrap()).unwrap();
    }

    fn group(&self) -> &'static str {
        let file = Path::new(&self.file).file_stem().unwrap();
        match file.to_str().unwrap() {
            "broker" => "Broker and network",
            "camera" => "Camera and FFmpeg",
            "machine" => "Machine and program",
            "uplink" => "A slow uplink",
            "video" => "The cameras' own video",
            "endurance" => "A thousand times",
            other => panic!("no heading for {other}"),
        }
    }

    fn order(&self) -> (usize, u32) {
        let groups = [
            "Broker",
            "A slow uplink",
            "Camera and",
            "The cameras' own",
            "Machine",
            "A thousand",
        ];
        let group = groups
            .iter()
            .position(|word| self.group().starts_with(word));
        (group.unwrap(), self.line)
    }

    fn cells(&self) -> String {
        let log: Vec<_> = self.log.iter().map(|line| code(line)).collect();
        let two = |numbers: [f64; 2], digits: usize| match numbers[1] {
            0.0 => "–".to_owned(),
            after => format!("{:.digits$} → {after:.digits$}", numbers[0]),
        };
        format!(
            "| {} | {} | {} | {:.1} | {} | {} |\n",
            self.fault,
            match log.is_empty() {
                true => "nothing".to_owned(),
                false => log.join("<br>"),
            },
            self.lost,
            self.recovery,
            two(self.rss_mb, 1),
            two(self.p99_ms, 0),
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
    rows.sort_by_key(Row::order);
    rows
}

/// One release's part of the page.
fn part(release: &str, rows: &[Row]) -> String {
    let mut out = format!("## RabbitMQ {release}\n\n{}\n", circumstances());
    let mut group = "";
    for row in rows {
        if row.group() != group {
            group = row.group();
            out += &format!(
                "\n### {group}\n\n\
                 | fault | what the log says | frames lost, of those captured | s to recover | RSS, MB | p99, ms |\n\
                 |---|---|---|---|---|---|\n"
            );
        }
        out += &row.cells();
    }
    out + "\n"
}

/// On what, with what and when.
fn circumstances() -> String {
    let text = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let cores = std::thread::available_parallelism().unwrap();
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let kb: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    // Of the quarter of an hour in which the tests ran.
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let load = load.split(' ').nth(2).unwrap();
    let ffmpeg = text("ffmpeg", &["-version"]);
    let ffmpeg = ffmpeg.split(" Copyright").next().unwrap();
    let build = match cfg!(debug_assertions) {
        true => "a debug build",
        false => "a release build",
    };
    format!(
        "{}, commit {}, {build}; {}; {cores} cores, {:.0} GB of RAM, Linux {}; load average {load}.",
        text("date", &["-u", "+%F"]),
        text("git", &["rev-parse", "--short", "HEAD"]),
        ffmpeg,
        kb as f64 / 1e6,
        text("uname", &["-r"]),
    )
}

/// The log lines of each fault in a part of the page.
fn told(part: &str) -> Vec<(&str, &str)> {
    let rows = part
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| fault"));
    rows.filter_map(|row| {
        let mut cells = row.trim_start_matches("| ").splitn(2, " | ");
        let fault = cells.next()?;
        // The first bar that is not within a log line.
        let log = cells.next()?.split(" | ").next()?;
        Some((fault, log))
    })
    .collect()
}

/// Faults of which the log of the two releases says something else, numbers apart.
fn differences(parts: &[String]) -> String {
    let [one, other] = parts else {
        return String::new();
    };
    let release = |part: &str| {
        part.lines()
            .next()
            .unwrap()
            .trim_start_matches("## ")
            .to_owned()
    };
    let without_numbers = |log: &str| -> String {
        log.chars()
            .filter(|c| !c.is_ascii_digit() && *c != '.')
            .collect()
    };
    let mut out = format!(
        "## Differences\n\n| fault | {} | {} |\n|---|---|---|\n",
        release(one),
        release(other)
    );
    let others = told(other);
    let same = out.len();
    for (fault, log) in told(one) {
        match others.iter().find(|(same, _)| *same == fault) {
            None => out += &format!("| {fault} | {log} | not run |\n"),
            Some((_, said)) if without_numbers(said) != without_numbers(log) => {
                out += &format!("| {fault} | {log} | {said} |\n");
            }
            Some(_) => {}
        }
    }
    match out.len() == same {
        true => "## Differences\n\nNone: the log says the same of each fault.\n".to_owned(),
        false => out,
    }
}

/// What comes before the tables.
const HEAD: &str = include_str!("head.md");

/// Not a test: the last step of `make faults`.
#[test]
#[ignore = "the last step of make faults"]
fn write_the_table() {
    let release = Rabbit::shared().release();
    let old = fs::read_to_string(TABLE).unwrap_or_default();
    let mut parts: Vec<String> = old
        .split_inclusive('\n')
        .fold(vec![], |mut parts: Vec<String>, line| {
            match (line.starts_with("## "), parts.last_mut()) {
                (true, _) => parts.push(line.to_owned()),
                (false, Some(part)) => *part += line,
                (false, None) => {}
            }
            parts
        })
        .into_iter()
        .filter(|part| part.starts_with("## RabbitMQ "))
        // Of each major release the newest run.
        .filter(|part| part["## RabbitMQ ".len()..].split('.').next() != release.split('.').next())
        .collect();
    parts.push(part(&release, &rows()));
    parts.sort();
    let page = format!("{HEAD}\n{}{}", parts.concat(), differences(&parts));
    fs::create_dir_all(PathBuf::from(TABLE).parent().unwrap()).unwrap();
    fs::write(TABLE, page.trim_end().to_owned() + "\n").unwrap();
}
