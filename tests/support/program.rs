//! Runs the program with any arguments, and keeps all of its output.

use super::guarded::{self, Guarded};
use super::{SOON, TempDir, http, wait_for};
use rustix::process::Signal;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Variables of the test's environment that change what the program does.
const FOREIGN: [&str; 4] = [
    "RUST_LOG",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
    "EDGE_VIDEO_AMQP",
];

/// What happens to an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// All of it is kept.
    Keeps,
    /// The pipe is open but not read: it fills.
    Sleeps,
    /// The pipe's other end is closed.
    Gone,
}

/// How to start the program.
#[derive(Debug)]
pub struct Call {
    args: Vec<String>,
    env: Vec<(String, String)>,
    dir: TempDir,
    listeners: [Listener; 2],
}

impl Call {
    /// With these arguments, in an empty folder of its own.
    pub fn new(args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: Vec::new(),
            dir: TempDir::new("program"),
            listeners: [Listener::Keeps; 2],
        }
    }

    /// Puts a file into its folder.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Writes config.yaml for the program: see [`http::or_off`].
    pub fn config(self, yaml: &str) -> Self {
        self.file("config.yaml", &http::or_off(yaml))
    }

    /// The folder that it will run in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn stdout(mut self, listener: Listener) -> Self {
        self.listeners[0] = listener;
        self
    }

    pub fn stderr(mut self, listener: Listener) -> Self {
        self.listeners[1] = listener;
        self
    }

    /// Starts it; does not wait for anything.
    pub fn start(self) -> Program {
        let program = env!("CARGO_BIN_EXE_edge-video");
        let mut command = guarded::command(program, Some(self.dir.path()));
        for key in FOREIGN {
            command.env_remove(key);
        }
        command
            .args(&self.args)
            .envs(self.env)
            .current_dir(self.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command);
        let child = process.child();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        let mut numbers = 0..;
        let outputs = outputs.map(|pipe| {
            let listener = self.listeners[numbers.next().unwrap()];
            Output::start(pipe, listener)
        });
        Program {
            process,
            outputs,
            dir: self.dir,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Ended {
        self.start().wait(SOON)
    }
}

/// A running program. Dropping it kills it; if the test has failed, what it said is shown.
pub struct Program {
    process: Guarded,
    outputs: [Output; 2],
    dir: TempDir,
}

impl Program {
    pub fn stdout(&self) -> String {
        self.outputs[0].text()
    }

    pub fn stderr(&self) -> String {
        self.outputs[1].text()
    }

    /// The folder that it runs in.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Reads stderr from here on, and what has waited in it. It was [`Listener::Sleeps`].
    pub fn wake_stderr(&mut self) {
        self.outputs[1].listen();
    }

    /// Waits for a line on stderr that holds `text`, and returns it.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str, limit: Duration) -> String {
        wait_for(limit, &format!("{text:?} on stderr"), || {
            line_with(&self.stderr(), text)
        })
    }

    /// Waits for a line on stdout that holds `text`, and returns it.
    #[track_caller]
    pub fn wait_for_stdout(&self, text: &str, limit: Duration) -> String {
        wait_for(limit, &format!("{text:?} on stdout"), || {
            line_with(&self.stdout(), text)
        })
    }

    /// Sends `signal` and waits for the end.
    #[track_caller]
    pub fn end(self, signal: Signal) -> Ended {
        self.process.signal(signal);
        self.wait(SOON)
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Ended {
        let since = std::time::Instant::now();
        let status = self.process.wait(limit);
        let took = since.elapsed();
        let outputs = [0, 1].map(|n| self.outputs[n].complete());
        let [stdout, stderr] = outputs;
        Ended {
            status,
            took,
            stdout,
            stderr,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            eprintln!("--- stdout\n{stdout}--- stderr");
            // How it began and how it ended.
            let lines: Vec<_> = stderr.lines().collect();
            for (n, line) in lines.iter().enumerate() {
                if n < 40 || n + 40 >= lines.len() {
                    eprintln!("{line}");
                }
            }
            eprintln!("---");
        }
    }
}

/// What a program said until its end.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// Counts from the wait for it.
    pub took: Duration,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The exit code; `None` if a signal killed it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// One output, collected by a thread.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    collector: Option<JoinHandle<()>>,
    /// Held so that it stays open.
    unread: Option<Box<dyn Read + Send>>,
}

impl Output {
    fn start(pipe: Box<dyn Read + Send>, listener: Listener) -> Self {
        let mut output = Self {
            bytes: Arc::default(),
            collector: None,
            unread: (listener != Listener::Gone).then_some(pipe),
        };
        if listener == Listener::Keeps {
            output.listen();
        }
        output
    }

    /// Reads from here on, including what already waits in the pipe.
    fn listen(&mut self) {
        let mut pipe = self.unread.take().unwrap();
        let bytes = Arc::clone(&self.bytes);
        self.collector = Some(std::thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                bytes.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        }));
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// All of it. It ends when no process holds the pipe any more.
    fn complete(&mut self) -> String {
        if let Some(collector) = self.collector.take() {
            super::wait_until(SOON, "the end of the output", || collector.is_finished());
            collector.join().unwrap();
        }
        self.text()
    }
}

fn line_with(text: &str, part: &str) -> Option<String> {
    text.lines()
        .find(|line| line.contains(part))
        .map(str::to_owned)
}
