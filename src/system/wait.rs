//! Waits for file descriptors, with a deadline.

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::time::{Duration, Instant};

/// Polls until a descriptor is ready (true) or `deadline` has come (false). A signal does not end
/// the wait. A descriptor that is always ready keeps the deadline from being noticed here.
///
/// # Errors
/// When the system has no memory for it.
pub fn wait_until(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(fds, Some(&timespec(left))) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::PollFlags;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_wait_ends_with_the_first_byte_or_at_its_deadline() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut fds = [PollFd::new(&ours, PollFlags::IN)];
        let past = Instant::now();
        assert!(!wait_until(&mut fds, past).unwrap());
        theirs.write_all(b"x").unwrap();
        let far = Instant::now() + Duration::from_secs(3600);
        assert!(wait_until(&mut fds, far).unwrap());
        assert!(!fds[0].revents().is_empty());
    }
}
