//! What the kernel knows of this process: memory, CPU, threads and limits, from `/proc` and `/sys`.

mod wait;

pub use wait::wait_until;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The memory limit as a share of the RAM, if the cgroup has none.
const SHARE_OF_RAM: f64 = 0.8;

/// This process, for the `process_*` metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Threads.
    pub threads: u64,
    /// Start of the process, Unix seconds.
    pub start_time_seconds: f64,
}

/// One thread of this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Thread {
    /// The kernel's name: at most 15 bytes.
    pub name: String,
    /// `S` sleeping, `R` running, ... as in ps(1).
    pub state: char,
    /// User and system time, seconds.
    pub cpu_seconds: f64,
}

/// The fields of a `stat` file that we use.
#[derive(Debug, PartialEq)]
struct Stat {
    name: String,
    state: char,
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
}

impl Stat {
    /// The name is in brackets and may itself contain spaces and brackets.
    fn parse(text: &str) -> Option<Self> {
        let (front, back) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = back.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n)?.parse::<u64>().ok();
        Some(Self {
            name: front.split_once(" (")?.1.to_owned(),
            state: fields.first()?.chars().next()?,
            cpu_ticks: number(11)? + number(12)?,
            threads: number(17)?,
            start_ticks: number(19)?,
        })
    }

    fn read(path: impl AsRef<Path>) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    fn cpu_seconds(&self) -> f64 {
        seconds(self.cpu_ticks)
    }
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Raises this process's limit of descriptors to the hard limit.
///
/// # Errors
/// If that is fewer than `needed`.
pub fn raise_descriptor_limit(needed: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        // A sandbox may forbid it; then the present limit applies.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    match getrlimit(Resource::Nofile).current {
        Some(had) if had < needed => Err(io::Error::other(format!(
            "the cameras need {needed} file descriptors, but the limit is {had}: raise it \
             (LimitNOFILE= in systemd, or ulimit -Hn), or configure fewer cameras"
        ))),
        _ => Ok(()),
    }
}

/// This process now. A value that cannot be read is 0.
pub fn process() -> Process {
    let Some(stat) = Stat::read("/proc/self/stat") else {
        return Process::default();
    };
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = field(&boot, "btime").unwrap_or(0) as f64;
    Process {
        cpu_seconds: stat.cpu_seconds(),
        resident_bytes: resident(std::process::id()).map_or(0, |it| it.total),
        // Without the descriptor that is open for counting.
        open_fds: fs::read_dir("/proc/self/fd")
            .map_or(0, |fds| (fds.count() as u64).saturating_sub(1)),
        threads: stat.threads,
        start_time_seconds: boot + seconds(stat.start_ticks),
    }
}

/// Resident bytes of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// All of them.
    pub total: u64,
    /// Pages of files among them, mostly libraries, which processes of one program share.
    pub shared: u64,
}

/// Resident bytes of process `pid`; `None` if it has ended.
pub fn resident(pid: u32) -> Option<Resident> {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut fields = pages.split(' ').skip(1);
    let mut bytes =
        || Some(fields.next()?.parse::<u64>().ok()? * rustix::param::page_size() as u64);
    Some(Resident {
        total: bytes()?,
        shared: bytes()?,
    })
}

/// All threads of this process, by name.
pub fn threads() -> Vec<Thread> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let mut threads: Vec<_> = tasks
        .flatten()
        // A thread may end meanwhile.
        .filter_map(|task| Stat::read(task.path().join("stat")))
        .map(|stat| Thread {
            cpu_seconds: stat.cpu_seconds(),
            name: stat.name,
            state: stat.state,
        })
        .collect();
    threads.sort_by(|a, b| a.name.cmp(&b.name));
    threads
}

/// Bytes that this process and its children may use: the lowest limit of its cgroups, else 80 % of
/// the RAM; 0 if neither can be read.
pub fn memory_limit() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let ram = field(&memory, "MemTotal:").unwrap_or(0) * 1024;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = limit_files(&groups)
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        .min()
        // Version 1 writes "no limit" as a number near 2^63.
        .filter(|limit| *limit < ram || ram == 0);
    limit.unwrap_or((ram as f64 * SHARE_OF_RAM) as u64)
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The files with the limits of the cgroups in `/proc/self/cgroup`, and of all cgroups above them.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            files.push(Path::new(root).join(group).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = "12 (pub) x (y) S 1 1 1 0 -1 4 5 6 7 8 150 50 0 0 20 0 9 0 4711 1000 20 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.name, "pub) x (y");
        assert_eq!((stat.state, stat.cpu_ticks), ('S', 200));
        assert_eq!((stat.threads, stat.start_ticks), (9, 4711));
        assert_eq!(Stat::parse("12 (x"), None);
    }

    #[test]
    fn limits_of_all_cgroups_above_count() {
        let paths = |text: &str| -> Vec<String> {
            let files = limit_files(text);
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect()
        };
        assert_eq!(
            paths("0::/system.slice/edge-video.service\n"),
            [
                "/sys/fs/cgroup/system.slice/edge-video.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            paths("5:cpu,cpuacct:/x\n4:memory:/docker\n"),
            [
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
    }

    #[test]
    fn this_process_is_found() {
        let process = process();
        assert!(process.resident_bytes > 100_000 && process.threads > 0 && process.open_fds > 2);
        // 2020 or later.
        assert!(process.start_time_seconds > 1.577e9, "{process:?}");
        assert!(memory_limit() > 1 << 20);
        assert_eq!(resident(u32::MAX), None);
    }
}
