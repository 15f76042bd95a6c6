//! Whether FFmpeg still has unread or unprocessed data, from /proc.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

/// What a process still has in store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Bytes wait unread in its sockets.
    Unread,
    /// Nothing waits in its sockets, but it works, or waits for a processor, or its pictures have
    /// not been read. Since 7.0 FFmpeg's threads pass pictures through queues, which hold two
    /// seconds of a camera's pictures when the machine is busy.
    InWork,
    /// Nothing: all its threads sleep until the camera sends something.
    Nothing,
}

/// Looks at the sockets are at least this far apart. The kernel walks its tables of sockets for
/// each: 7 ms of CPU with the 262,144 buckets of a machine with 24 GB. Cameras that start together
/// all need looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a process had in store when it was last looked at.
#[derive(Debug)]
pub struct Backlog {
    process: u32,
    /// When its sockets were looked at, and whether nothing waited in them.
    last: Option<(Instant, bool)>,
}

impl Backlog {
    /// Of the process with this id.
    pub fn of(process: u32) -> Self {
        let last = None;
        Self { process, last }
    }

    /// What the process has in store; in its sockets, what it had within the last `LOOK_EVERY`.
    /// `is_read` tells whether we have read all that it wrote. `Nothing` also if the process is
    /// gone, or /proc cannot be read.
    pub fn store(&mut self, is_read: impl FnOnce() -> bool) -> Store {
        let recent = self.last.filter(|(at, _)| at.elapsed() < LOOK_EVERY);
        let drained = recent.map_or_else(|| is_drained(self.process), |(_, drained)| drained);
        // Its threads each time: it works on a picture when a unit has come, and sleeps when the
        // picture has. `is_read` last: what the process held at the look has been written by then.
        let store = if !drained {
            Store::Unread
        } else if sleeps(self.process) && is_read() {
            Store::Nothing
        } else {
            Store::InWork
        };
        if recent.is_none() {
            self.last = Some((Instant::now(), drained));
        }
        store
    }
}

/// The lists of sockets of this network namespace. Each line has the bytes that wait in column 5,
/// as `sent:received` in hexadecimal, and the inode in column 10 (proc(5)).
const LISTS: [&str; 4] = ["tcp", "tcp6", "udp", "udp6"];

/// Whether nothing waits in any socket of process `id`. Also true for a process without sockets.
fn is_drained(id: u32) -> bool {
    let sockets = sockets(id);
    sockets.is_empty()
        || LISTS.iter().all(|list| {
            let text = fs::read_to_string(format!("/proc/self/net/{list}")).unwrap_or_default();
            !text.lines().any(|line| waits(line, &sockets))
        })
}

/// Whether no thread of process `id` runs, waits for a processor or a disk, or is stopped.
fn sleeps(id: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state is behind the name, which may hold anything (proc(5)).
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next());
        !matches!(state, Some('R' | 'D' | 'T' | 't'))
    })
}

/// Inodes of the sockets that process `id` has open.
fn sockets(id: u32) -> HashSet<String> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{id}/fd")) else {
        return HashSet::new();
    };
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

fn waits(line: &str, sockets: &HashSet<String>) -> bool {
    let mut columns = line.split_ascii_whitespace();
    let received = columns.nth(4).and_then(|queues| queues.split(':').nth(1));
    let inode = columns.nth(4);
    received.is_some_and(|bytes| bytes.bytes().any(|digit| digit != b'0'))
        && inode.is_some_and(|inode| sockets.contains(inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn bytes_that_nobody_has_read_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let inode = |descriptor: &dyn std::os::fd::AsRawFd| {
            let link = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap();
            let link = link.to_str().unwrap().to_owned();
            HashSet::from([link["socket:[".len()..link.len() - 1].to_owned()])
        };
        let waiting = |list: &str, sockets: &HashSet<String>| {
            let text = fs::read_to_string(format!("/proc/self/net/{list}")).unwrap();
            text.lines().any(|line| waits(line, sockets))
        };
        let tcp = inode(&receiver);
        assert!(!waiting("tcp", &tcp));
        sender.write_all(b"late").unwrap();
        receiver.peek(&mut [0; 4]).unwrap();
        assert!(waiting("tcp", &tcp));
        receiver.read_exact(&mut [0; 4]).unwrap();
        assert!(!waiting("tcp", &tcp));

        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inodes = inode(&udp);
        udp.send_to(b"late", udp.local_addr().unwrap()).unwrap();
        udp.peek(&mut [0; 4]).unwrap();
        assert!(waiting("udp", &inodes));
    }

    #[test]
    fn a_process_that_is_gone_has_nothing_in_store() {
        assert_eq!(Backlog::of(0).store(|| true), Store::Nothing);
        assert_eq!(Backlog::of(0).store(|| false), Store::InWork);
    }

    #[test]
    fn a_process_that_works_or_is_stopped_does_not_sleep() {
        assert!(!sleeps(std::process::id()), "this thread runs");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let comes = |want: bool| {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while sleeps(child.id()) != want {
                assert!(std::time::Instant::now() < end, "never {want}");
                std::thread::yield_now();
            }
        };
        comes(true);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        comes(false);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
