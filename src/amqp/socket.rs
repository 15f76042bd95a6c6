//! The socket of a connection, for threads that may have to end it from outside.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// Ends a connection from outside, which wakes every thread that is blocked in it.
#[derive(Debug, Clone)]
pub struct Socket(pub(super) Arc<TcpStream>);

impl Socket {
    /// Ends the connection at once, and discards what has not left this machine.
    pub fn cut(&self) {
        // After shutdown(2) alone the kernel goes on sending what it holds: over a slow link these
        // old frames would arrive after newer ones. So the connection is reset first. The shutdown
        // then wakes threads that wait to read. Each call fails only when the connection is down
        // already.
        let _ = rustix::net::connect_unspec(&self.0);
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
