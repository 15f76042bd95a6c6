//! A consumer that only reads the stamps of pictures.

use super::amqp::Client;
use super::stamp::{self, Stamp};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A picture that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub stamp: Stamp,
    /// Unix µs.
    pub at: i64,
}

impl Arrival {
    pub fn age_us(&self) -> i64 {
        self.at - self.stamp.taken
    }
}

/// A consumer on its own thread.
pub struct Consumer {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    total: Arc<Mutex<(u64, u64)>>,
    socket: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Returns when its queue is bound.
    pub fn start(port: u16, exchange: &str) -> Self {
        let mut client = Client::connect(port, None).unwrap();
        client.declare_exchange(exchange).unwrap();
        client.consume(exchange).unwrap();
        let socket = client.handle().unwrap();
        let arrivals = Arc::new(Mutex::new(Vec::with_capacity(100_000)));
        let total = Arc::new(Mutex::new((0, 0)));
        let thread = std::thread::spawn({
            let (arrivals, total) = (Arc::clone(&arrivals), Arc::clone(&total));
            move || {
                // Ends when the socket is shut down.
                let _ = client.deliveries(|first, length| {
                    let at = stamp::now_us();
                    let mut total = total.lock().unwrap();
                    *total = (total.0 + 1, total.1 + length as u64);
                    if let Some(stamp) = Stamp::read(first) {
                        arrivals.lock().unwrap().push(Arrival { stamp, at });
                    }
                });
            }
        });
        Self {
            arrivals,
            total,
            socket,
            thread: Some(thread),
        }
    }

    /// How many cameras have sent a picture.
    pub fn cameras(&self) -> usize {
        let arrivals = self.arrivals.lock().unwrap();
        let mut cameras: Vec<_> = arrivals
            .iter()
            .map(|arrival| arrival.stamp.camera)
            .collect();
        cameras.sort_unstable();
        cameras.dedup();
        cameras.len()
    }

    /// Pictures and their bytes so far, with or without a stamp.
    pub fn total(&self) -> (u64, u64) {
        *self.total.lock().unwrap()
    }

    /// All that arrived since the last call.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals.lock().unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
