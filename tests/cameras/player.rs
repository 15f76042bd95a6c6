//! Sends a stream of a played RTSP camera, in real time.

use crate::rtp::{Chance, Stream};
use crate::rtsp::{Join, Sent, Shared};
use crate::support::unix_us;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Io<T> = std::io::Result<T>;

/// Where a stream's packets go.
#[derive(Debug)]
pub enum Way {
    /// The number of the channel within the connection.
    Tcp(u8),
    Udp(UdpSocket),
}

/// Sends one stream of one session.
pub struct Player {
    pub shared: Arc<Shared>,
    pub connection: Arc<Mutex<TcpStream>>,
    pub over: Arc<AtomicBool>,
    pub stream: usize,
    pub way: Way,
}

impl Player {
    /// Until the client or the camera closes.
    pub fn play(&self) -> Io<()> {
        let play = &self.shared.play;
        let clips = &play.streams[self.stream];
        let film = clips[0].film;
        let units: Vec<_> = clips
            .iter()
            .flat_map(|clip| {
                clip.units
                    .iter()
                    .enumerate()
                    .map(move |(at, unit)| (clip, at, unit))
            })
            .collect();
        let fps = f64::from(film.fps);
        let now = Instant::now();
        let (zero, first) = match play.join {
            Join::Key => (now, 0),
            Join::Middle(at) => {
                let mut began = self.shared.began.lock().unwrap();
                let zero = *began.get_or_insert(now - Duration::from_secs_f64(at));
                (zero, ((now - zero).as_secs_f64() * fps).ceil() as usize)
            }
        };
        let zero_us = unix_us() - i64::try_from(zero.elapsed().as_micros()).unwrap();
        let mut stream = Stream::new(film.codec, play.stamps);
        let mut chance = Chance(11);
        for at in first.. {
            let since = at as f64 / fps;
            let due = zero + Duration::from_secs_f64(since);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let lasts = (at - first) as f64 / fps;
            if play.close_after.is_some_and(|end| lasts >= end) || self.over.load(Ordering::Relaxed)
            {
                return Ok(());
            }
            if play
                .stall
                .is_some_and(|(from, time)| (from..from + time).contains(&lasts))
            {
                continue;
            }
            let (clip, place, unit) = units[at % units.len()];
            let mut packets = stream.packets(unit, lasts);
            packets.retain(|_| chance.next() >= play.loss);
            self.shared.sent.lock().unwrap().push(Sent {
                taken_us: zero_us + (since * 1e6) as i64,
                number: clip.number(place),
                key: unit.key,
            });
            self.send(&packets)?;
        }
        Ok(())
    }

    fn send(&self, packets: &[Vec<u8>]) -> Io<()> {
        let channel = match &self.way {
            Way::Udp(socket) => {
                for packet in packets {
                    // Before FFmpeg has bound its port a packet is refused.
                    let _ = socket.send(packet);
                }
                return Ok(());
            }
            Way::Tcp(channel) => *channel,
        };
        let mut bytes = vec![];
        for packet in packets {
            bytes.extend([b'$', channel]);
            bytes.extend((packet.len() as u16).to_be_bytes());
            bytes.extend(packet);
        }
        self.connection.lock().unwrap().write_all(&bytes)
    }
}
