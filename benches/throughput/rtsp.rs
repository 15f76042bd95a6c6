//! Cameras that send H.264 by RTSP over TCP: one process that plays one clip to each client, from a
//! keyframe on and in real time. Packets are made once, so that it uses little CPU.

use super::load;
use super::stamp::{self, Stamp};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Payload bytes of a packet at most: what an Ethernet frame holds, with room for headers.
const PAYLOAD: usize = 1400;
/// RTP's clock for video, per second.
const CLOCK: u32 = 90_000;
/// A NAL unit with the clip's stamp as supplemental information.
const BEFORE_STAMP: &[u8] = &[6, 5, stamp::LENGTH as u8];

/// Arguments that make this program such cameras. `of` is the number of clients that are expected.
pub fn arguments(port: u16, clip: &str, fps: u32, of: usize, cpus: Option<&str>) -> Vec<String> {
    let numbers = [port.to_string(), fps.to_string(), of.to_string()];
    let [port, fps, of] = numbers;
    let cpus = cpus.unwrap_or_default().to_owned();
    vec!["rtsp".to_owned(), port, clip.to_owned(), fps, of, cpus]
}

/// Runs as the cameras, if the arguments say so.
pub fn run_if_asked(args: &[String]) -> bool {
    let [rtsp, port, clip, fps, of, cpus] = args else {
        return false;
    };
    if rtsp != "rtsp" {
        return false;
    }
    load::stay_on(cpus);
    let film = Arc::new(Film::new(
        &std::fs::read(clip).unwrap(),
        fps.parse().unwrap(),
        of.parse().unwrap(),
    ));
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for (number, client) in (0..).zip(listener.incoming()) {
        let film = Arc::clone(&film);
        // A client that goes away ends its thread.
        std::thread::spawn(move || film.serve(number, client.unwrap()));
    }
    true
}

/// A clip as packets.
struct Film {
    fps: u32,
    of: u32,
    /// When the first picture was taken.
    start: Instant,
    sdp: String,
    units: Vec<Unit>,
}

/// The packets of one access unit, each with the four bytes in front that RTSP adds, and where each
/// begins.
struct Unit {
    bytes: Vec<u8>,
    packets: Vec<usize>,
}

impl Film {
    /// Of an H.264 stream with a delimiter in front of each access unit.
    fn new(clip: &[u8], fps: u32, of: u32) -> Self {
        const DELIMITER: u8 = 9;
        let nals: Vec<_> = nals(clip).collect();
        let units = nals.split(|nal| nal[0] & 0x1f == DELIMITER).skip(1);
        let set = |kind| nals.iter().find(|nal| nal[0] & 0x1f == kind).unwrap();
        let sets = [set(7), set(8)].map(|set| base64(set)).join(",");
        Self {
            fps,
            of,
            start: Instant::now(),
            sdp: format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
                 m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/{CLOCK}\r\n\
                 a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\n\
                 a=control:track0\r\n"
            ),
            units: units.map(Unit::of).collect(),
        }
    }

    fn serve(&self, number: u32, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut requests = BufReader::new(client.try_clone()?);
        loop {
            let mut lines = vec![];
            loop {
                let mut line = String::new();
                if requests.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                match line.trim_end() {
                    "" => break,
                    line => lines.push(line.to_owned()),
                }
            }
            let field = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
            let method = lines[0].split(' ').next().unwrap_or_default();
            let (more, body) = match method {
                "OPTIONS" => (
                    "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n".into(),
                    "",
                ),
                "DESCRIBE" => (
                    format!(
                        "Content-Type: application/sdp\r\nContent-Length: {}\r\n",
                        self.sdp.len()
                    ),
                    self.sdp.as_str(),
                ),
                "SETUP" => (
                    format!("Transport:{}\r\n", field("Transport:").unwrap_or_default()),
                    "",
                ),
                _ => (String::new(), ""),
            };
            let sequence = field("CSeq:").unwrap_or_default();
            let answer = format!(
                "RTSP/1.0 200 OK\r\nCSeq:{sequence}\r\nSession: 1{number:07}\r\n{more}\r\n{body}"
            );
            (&client).write_all(answer.as_bytes())?;
            if method == "PLAY" {
                return self.play(number, &client);
            }
        }
    }

    /// Sends the clip without end. The cameras take their pictures at different moments.
    fn play(&self, number: u32, mut client: &TcpStream) -> io::Result<()> {
        let period = 1.0 / f64::from(self.fps);
        let phase = period * f64::from(number % self.of) / f64::from(self.of);
        let played = self.start.elapsed().as_secs_f64() / period;
        let first = Duration::from_secs_f64(played.ceil() * period + phase);
        let mut bytes = vec![];
        let mut sequence = 0u16;
        for at in 0u32.. {
            let due = self.start + first + Duration::from_secs_f64(f64::from(at) * period);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let late = Instant::now().saturating_duration_since(due);
            let unit = &self.units[at as usize % self.units.len()];
            bytes.clear();
            bytes.extend_from_slice(&unit.bytes);
            let time = at.wrapping_mul(CLOCK / self.fps);
            for &packet in &unit.packets {
                bytes[packet + 2..packet + 4].copy_from_slice(&sequence.to_be_bytes());
                bytes[packet + 4..packet + 8].copy_from_slice(&time.to_be_bytes());
                sequence = sequence.wrapping_add(1);
            }
            let stamp = Stamp {
                camera: number,
                number: at + 1,
                taken: stamp::now_us() - i64::try_from(late.as_micros()).unwrap(),
            };
            // In the first packet, behind the headers.
            let at = unit.packets[0] + 12 + BEFORE_STAMP.len();
            bytes[at..at + stamp::LENGTH].copy_from_slice(stamp.text().as_bytes());
            client.write_all(&bytes)?;
        }
        Ok(())
    }
}

impl Unit {
    fn of(nals: &[&[u8]]) -> Self {
        let stamp = [BEFORE_STAMP, &[b'0'; stamp::LENGTH], &[0x80]].concat();
        let nals = std::iter::once(stamp.as_slice()).chain(nals.iter().copied());
        let payloads: Vec<_> = nals.flat_map(payloads).collect();
        let (mut bytes, mut packets) = (vec![], vec![]);
        for (n, payload) in payloads.iter().enumerate() {
            let marker = u8::from(n + 1 == payloads.len()) << 7;
            bytes.extend([b'$', 0]);
            bytes.extend((payload.len() as u16 + 12).to_be_bytes());
            packets.push(bytes.len());
            bytes.extend([0x80, 96 | marker, 0, 0, 0, 0, 0, 0, 0x0c, 0xa3, 0xe2, 0xa5]);
            bytes.extend(payload);
        }
        Self { bytes, packets }
    }
}

/// A NAL unit whole, or in fragments (RFC 6184, FU-A).
fn payloads(nal: &[u8]) -> Vec<Vec<u8>> {
    if nal.len() <= PAYLOAD {
        return vec![nal.to_vec()];
    }
    let chunks: Vec<_> = nal[1..].chunks(PAYLOAD - 2).collect();
    let last = chunks.len() - 1;
    let fragment = |(index, chunk): (usize, &&[u8])| {
        let edges = u8::from(index == 0) << 7 | u8::from(index == last) << 6;
        [&[nal[0] & 0xe0 | 28, edges | nal[0] & 0x1f], *chunk].concat()
    };
    chunks.iter().enumerate().map(fragment).collect()
}

/// The NAL units between start codes.
fn nals(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let codes = stream.windows(3).enumerate();
    let starts: Vec<_> = codes
        .filter(|(_, window)| *window == [0, 0, 1])
        .map(|(at, _)| at)
        .collect();
    let ends = starts.clone().into_iter().skip(1).chain([stream.len()]);
    starts.into_iter().zip(ends).map(|(start, end)| {
        let nal = &stream[start + 3..end];
        let last = nal.iter().rposition(|byte| *byte != 0).unwrap();
        &nal[..=last]
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().chain([0, 0].iter()).take(3);
        let bits = bits.fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        (0..4).map(move |digit| match digit <= chunk.len() {
            true => char::from(DIGITS[bits >> (18 - 6 * digit) & 63]),
            false => '=',
        })
    });
    digits.collect()
}
