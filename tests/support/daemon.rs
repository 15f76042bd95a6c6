//! The real daemon as a child process, and its state in /proc.

use super::guarded::{self, Guarded, pid_of};
use super::{TempDir, http, wait_until};
use rustix::process::{Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Limits the memory of the test if a daemon logs without end.
const LOG_LINES_KEPT: usize = 50_000;
/// Shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;
/// How long a graceful stop may take; a test with a shorter limit checks [`Exit::took`].
const EXIT_LIMIT: Duration = Duration::from_secs(30);
/// Linux reports CPU time in this unit, whatever the kernel's own tick is.
const TICKS_PER_SECOND: u64 = 100;
/// Marks a daemon's descendants, so that they are found after their parent has ended.
const TAG: &str = "FFMPEG_TEST_TAG";

/// How to start a daemon.
#[derive(Debug)]
pub struct Setup {
    program: PathBuf,
    config: String,
    env: Vec<(String, String)>,
}

impl Setup {
    /// With this `config.yaml`.
    pub fn new(config_yaml: &str) -> Self {
        Self {
            program: env!("CARGO_BIN_EXE_edge-video").into(),
            config: config_yaml.to_owned(),
            env: Vec::new(),
        }
    }

    /// Adds an environment variable. `RUST_LOG` is unset unless given here.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Has [`Daemon::overdue`] know every step of the stop.
    pub fn watch_stop(self) -> Self {
        self.env("RUST_LOG", "info,edge_video::daemon=debug")
    }

    /// Runs another program in the daemon's place.
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Starts it; does not wait for anything.
    pub fn start(self) -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{count}", std::process::id());

        let dir = TempDir::new("daemon");
        let config = dir.path().join("config.yaml");
        fs::write(&config, http::or_off(&self.config)).unwrap();
        let mut command = guarded::command(&self.program, Some(dir.path()));
        command
            .args(["run", "--config"])
            .arg(&config)
            .env_remove("RUST_LOG")
            .env(TAG, &tag)
            .envs(self.env)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command);
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = BufReader::new(process.child().stderr.take().unwrap());
        let collector = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.split(b'\n').map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    if log.len() == LOG_LINES_KEPT {
                        log.pop_front();
                    }
                    log.push_back(String::from_utf8_lossy(&line).into_owned());
                }
            }
        });
        Daemon {
            process,
            log,
            log_file: Mutex::default(),
            collector: Some(collector),
            tag,
            dir,
        }
    }
}

/// A running daemon. Dropping it kills it and all that it left behind; if the test has failed, its
/// last log lines are shown.
#[derive(Debug)]
pub struct Daemon {
    process: Guarded,
    log: Arc<Mutex<VecDeque<String>>>,
    /// The file of the log, if it does not go to a pipe.
    log_file: Mutex<Option<fs::File>>,
    collector: Option<JoinHandle<()>>,
    tag: String,
    dir: TempDir,
}

impl Daemon {
    /// Starts it with this `config.yaml`; does not wait for anything.
    pub fn start(config_yaml: &str) -> Self {
        Setup::new(config_yaml).start()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its `config.yaml`.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// Gives it another `config.yaml` and SIGHUP.
    pub fn reload(&self, config_yaml: &str) {
        fs::write(self.config_path(), http::or_off(config_yaml)).unwrap();
        self.signal(Signal::HUP);
    }

    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// The log so far, at most the last 50,000 lines.
    pub fn log(&self) -> Vec<String> {
        if let Some(file) = &mut *self.log_file.lock().unwrap() {
            let mut text = vec![];
            file.rewind().unwrap();
            file.read_to_end(&mut text).unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            return text.lines().map(str::to_owned).collect();
        }
        self.log.lock().unwrap().iter().cloned().collect()
    }

    /// Its stderr goes to this file.
    pub fn log_is_in(&self, file: fs::File) {
        *self.log_file.lock().unwrap() = Some(file);
    }

    /// The log lines that hold `text`.
    pub fn log_with(&self, text: &str) -> Vec<String> {
        let mut log = self.log();
        log.retain(|line| line.contains(text));
        log
    }

    /// The steps of its stop that reached their time limit: a line for each, with the names of the
    /// threads. Needs [`Setup::watch_stop`].
    pub fn overdue(&self) -> Vec<String> {
        self.log_with("still running after ")
    }

    /// Waits for a log line that holds `text`, and returns the first one.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str, limit: Duration) -> String {
        let what = format!("{text:?} in the daemon's log");
        super::wait_for(limit, &what, || self.log_with(text).into_iter().next())
    }

    /// Its status page's server; needs [`http::ON`](super::http::ON) in its configuration.
    #[track_caller]
    pub fn http(&self) -> super::http::Http {
        let line = self.wait_for_log("status page: http://", super::SOON);
        let (_, address) = line.split_once("http://").unwrap();
        super::http::Http::new(address.trim_end_matches('/').parse().unwrap())
    }

    /// Waits until every frame of cameras that were just stopped is counted as published or
    /// dropped.
    #[track_caller]
    pub fn wait_until_all_is_answered(&self) {
        let http = self.http();
        let (mut captured, mut calm) = (Value::Null, 0);
        wait_until(super::SOON, "the last confirms", || {
            let total = &http.get("/status").json()["total"];
            let answered = total["in_flight"] == 0 && total["waiting"] == 0;
            // A frame may still be in a pipe.
            calm = if answered && total["captured"] == captured {
                calm + 1
            } else {
                0
            };
            captured = total["captured"].clone();
            calm >= 20
        });
    }

    /// Number of its threads.
    pub fn threads(&self) -> usize {
        count_entries(&proc_file(self.pid(), "task"))
    }

    /// Names of its threads, sorted. The kernel cuts them at 15 bytes.
    pub fn thread_names(&self) -> Vec<String> {
        let Ok(tasks) = fs::read_dir(proc_file(self.pid(), "task")) else {
            return Vec::new();
        };
        let mut names: Vec<_> = tasks
            .flatten()
            // A thread may end while we look.
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
            .map(|name| name.trim_end().to_owned())
            .collect();
        names.sort();
        names
    }

    /// How often its threads of that name have gone to sleep.
    pub fn sleeps_of(&self, thread: &str) -> u64 {
        let Ok(tasks) = fs::read_dir(proc_file(self.pid(), "task")) else {
            return 0;
        };
        let of = |status: &str| {
            status.strip_prefix("Name:\t")?.strip_prefix(thread)?;
            let (_, sleeps) = status.split_once("\nvoluntary_ctxt_switches:")?;
            sleeps.lines().next()?.trim().parse::<u64>().ok()
        };
        tasks
            .flatten()
            .filter_map(|task| of(&fs::read_to_string(task.path().join("status")).ok()?))
            .sum()
    }

    /// CPU time that its living threads of that name have used, in nanoseconds precisely.
    pub fn cpu_of(&self, thread: &str) -> Duration {
        let Ok(tasks) = fs::read_dir(proc_file(self.pid(), "task")) else {
            return Duration::ZERO;
        };
        let of = |task: &Path| {
            let name = fs::read_to_string(task.join("comm")).ok()?;
            let used = fs::read_to_string(task.join("schedstat")).ok()?;
            let used = used.split(' ').next()?.parse().ok()?;
            name.starts_with(thread)
                .then_some(Duration::from_nanos(used))
        };
        tasks.flatten().filter_map(|task| of(&task.path())).sum()
    }

    /// Number of its open file descriptors.
    pub fn fds(&self) -> usize {
        count_entries(&proc_file(self.pid(), "fd"))
    }

    /// Its living descendants: children, their children and so on.
    pub fn children(&self) -> Vec<u32> {
        self.descendants()
            .into_iter()
            .filter(|process| process.state != 'Z')
            .map(|process| process.pid)
            .collect()
    }

    /// Descendants that ended and were not waited for.
    pub fn zombies(&self) -> Vec<u32> {
        self.descendants()
            .into_iter()
            .filter(|process| process.state == 'Z')
            .map(|process| process.pid)
            .collect()
    }

    /// Every living process that descends from it, whatever its parent is now; without itself.
    /// After the daemon's end this must be empty.
    pub fn offspring(&self) -> Vec<u32> {
        let tag = format!("{TAG}={}", self.tag);
        let is_tagged = |environ: &[u8]| {
            environ
                .split(|byte| *byte == 0)
                .any(|var| var == tag.as_bytes())
        };
        processes()
            .into_iter()
            .filter(|process| process.pid != self.pid() && process.state != 'Z')
            .filter(|process| {
                fs::read(proc_file(process.pid, "environ")).is_ok_and(|env| is_tagged(&env))
            })
            .map(|process| process.pid)
            .collect()
    }

    /// Resident memory of the daemon alone.
    pub fn rss_kb(&self) -> u64 {
        let status = fs::read_to_string(proc_file(self.pid(), "status")).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .map_or(0, |kb| kb.trim().parse().unwrap())
    }

    /// CPU time that the daemon alone has used, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(proc_file(self.pid(), "stat")).unwrap_or_default();
        Process::parse(&stat).map_or(Duration::ZERO, |process| process.cpu)
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn terminate(&mut self) -> Exit {
        self.signal(Signal::TERM);
        self.wait_exit(EXIT_LIMIT)
    }

    /// Waits for the end. [`Exit::took`] counts from this call.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> Exit {
        let since = Instant::now();
        let status = self.process.wait(limit);
        let took = since.elapsed();
        // Reads the rest of the log with the report. It ends when no process holds the pipe, so a
        // child that is left behind would block here.
        if let Some(collector) = self.collector.take() {
            wait_until(super::SOON, "the end of the daemon's log", || {
                collector.is_finished()
            });
            let _ = collector.join();
        }
        let report = self
            .log()
            .iter()
            .rev()
            .find_map(|line| Report::from_log(line));
        Exit {
            status,
            took,
            report,
        }
    }

    fn descendants(&self) -> Vec<Process> {
        let all = processes();
        let mut found: Vec<Process> = Vec::new();
        let mut parents = vec![self.pid()];
        while let Some(parent) = parents.pop() {
            for process in all.iter().filter(|process| process.parent == parent) {
                parents.push(process.pid);
                found.push(process.clone());
            }
        }
        found
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let skipped = log.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!("--- the daemon's log, without its first {skipped} lines");
            for line in &log[skipped..] {
                eprintln!("{line}");
            }
            eprintln!("---");
        }
        self.process.kill();
        for pid in self.offspring() {
            let _ = kill_process(pid_of(pid), Signal::KILL);
        }
    }
}

/// How a daemon ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub took: Duration,
    /// The last report in its log.
    pub report: Option<Report>,
}

impl Exit {
    /// The exit code; `None` if a signal killed it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The report; panics if there was none.
    #[track_caller]
    pub fn report(&self) -> &Report {
        self.report.as_ref().expect("the daemon logged no report")
    }
}

/// The accounting that the daemon logs at its end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Report {
    pub cameras: Vec<Account>,
    pub total: Account,
}

/// The accounting of one camera, or of all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Account {
    /// Empty for the total.
    #[serde(default)]
    pub camera_id: String,
    pub captured: u64,
    pub published: u64,
    /// By reason.
    pub dropped: BTreeMap<String, u64>,
    pub in_flight: u64,
    pub waiting: u64,
    pub bytes: u64,
    /// By reason.
    pub restarts: BTreeMap<String, u64>,
    /// Of its access units, if any were captured.
    #[serde(default)]
    pub video: Option<VideoAccount>,
}

/// The accounting of the access units of one camera, or of all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VideoAccount {
    pub captured: u64,
    pub published: u64,
    /// By reason.
    pub dropped: BTreeMap<String, u64>,
    pub in_flight: u64,
    pub waiting: u64,
    pub bytes: u64,
}

impl VideoAccount {
    /// Units dropped for all reasons.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().sum()
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(
            self.captured,
            self.published + self.dropped_in_all() + self.in_flight + self.waiting,
            "units captured = published + dropped + in flight + waiting: {self:?}"
        );
        assert_eq!((self.in_flight, self.waiting), (0, 0), "{self:?}");
    }
}

impl Account {
    /// Frames dropped for all reasons.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Restarts for all reasons.
    pub fn restarts_in_all(&self) -> u64 {
        self.restarts.values().sum()
    }

    /// Frames dropped for this reason; panics if the report does not know it.
    #[track_caller]
    pub fn dropped(&self, reason: &str) -> u64 {
        self.dropped[reason]
    }

    /// Restarts for this reason; panics if the report does not know it.
    #[track_caller]
    pub fn restarts(&self, reason: &str) -> u64 {
        self.restarts[reason]
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(
            self.captured,
            self.published + self.dropped_in_all() + self.in_flight + self.waiting,
            "captured = published + dropped + in flight + waiting: {self:?}"
        );
        assert_eq!((self.in_flight, self.waiting), (0, 0), "{self:?}");
        if let Some(video) = &self.video {
            video.check();
        }
    }
}

impl Report {
    /// The report in a line of the log, be it text or JSON.
    pub fn from_log(line: &str) -> Option<Self> {
        const START: &str = "{\"cameras\"";
        if !line.contains("edge_video::report") {
            return None;
        }
        if let Ok(Value::Object(record)) = serde_json::from_str::<Value>(line) {
            // Either the message is the report as text, or a field is the report itself.
            return record.into_iter().find_map(|(_, field)| match field {
                Value::String(text) => first_object(&text[text.find(START)?..]),
                field => serde_json::from_value(field).ok(),
            });
        }
        first_object(&line[line.find(START)?..])
    }

    /// One camera's account; panics if there is none.
    #[track_caller]
    pub fn camera(&self, camera_id: &str) -> &Account {
        self.cameras
            .iter()
            .find(|camera| camera.camera_id == camera_id)
            .unwrap_or_else(|| panic!("no {camera_id} in {self:?}"))
    }

    /// Every frame and every access unit is accounted for, in each camera and in all, and none is
    /// left anywhere.
    #[track_caller]
    pub fn check_accounting(&self) {
        for account in self.cameras.iter().chain([&self.total]) {
            account.check();
        }
        type Count = fn(&Account) -> u64;
        let counts: [(&str, Count); 5] = [
            ("captured", |account| account.captured),
            ("published", |account| account.published),
            ("dropped", Account::dropped_in_all),
            ("bytes", |account| account.bytes),
            ("restarts", Account::restarts_in_all),
        ];
        for (name, count) in counts {
            let sum: u64 = self.cameras.iter().map(count).sum();
            assert_eq!(count(&self.total), sum, "total {name}: {self:?}");
        }
        type CountUnits = fn(&VideoAccount) -> u64;
        let counts: [(&str, CountUnits); 4] = [
            ("captured", |video| video.captured),
            ("published", |video| video.published),
            ("dropped", VideoAccount::dropped_in_all),
            ("bytes", |video| video.bytes),
        ];
        for (name, count) in counts {
            let videos = self.cameras.iter().filter_map(|it| it.video.as_ref());
            let (any, sum) = (videos.clone().next().is_some(), videos.map(count).sum());
            let total = self.total.video.as_ref().map(count);
            assert_eq!(total, any.then_some(sum), "total units {name}: {self:?}");
        }
    }
}

/// The JSON value at the start of `text`, whatever follows it.
fn first_object(text: &str) -> Option<Report> {
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .next()?
        .ok()
}

/// One line of the system's process table.
#[derive(Debug, Clone)]
struct Process {
    pid: u32,
    parent: u32,
    state: char,
    cpu: Duration,
}

impl Process {
    /// Reads `/proc/PID/stat`. The name stands in brackets and may itself hold spaces and brackets.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(' ')?;
        let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        Some(Self {
            pid: pid.parse().ok()?,
            state: fields[0].chars().next()?,
            parent: fields[1].parse().ok()?,
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
        })
    }
}

fn processes() -> Vec<Process> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| Process::parse(&stat))
        .collect()
}

fn proc_file(pid: u32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

fn count_entries(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}
