//! A live stream over HTTP, which goes on whether somebody reads it or not, and whose format can
//! change while somebody does.

use crate::support::free_port;
use crate::support::guarded::pid_of;
use rustix::process::{Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The server. Its threads and their FFmpegs end with the test process.
pub struct Live {
    port: u16,
    play: Arc<Mutex<String>>,
}

impl Live {
    /// `play` is the size of the test picture, and then the arguments of FFmpeg's output. MPEG-TS
    /// can be joined in the middle, so one stream is for all; others begin for each client.
    pub fn start(play: &str) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let joined = play.ends_with("mpegts");
        let play = Arc::new(Mutex::new(play.to_owned()));
        let clients = Arc::new(Mutex::new(vec![]));
        if joined {
            let (play, clients) = (Arc::clone(&play), Arc::clone(&clients));
            std::thread::spawn(move || send(&play, &clients, false));
        }
        let shared = Arc::clone(&play);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(stream) = welcome(stream) else {
                    continue;
                };
                if joined {
                    clients.lock().unwrap().push(stream);
                } else {
                    let play = Arc::clone(&shared);
                    std::thread::spawn(move || send(&play, &Mutex::new(vec![stream]), true));
                }
            }
        });
        Self { port, play }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/live", self.port)
    }

    /// The same connections go on with this.
    pub fn play(&self, play: &str) {
        play.clone_into(&mut self.play.lock().unwrap());
    }
}

fn welcome(mut stream: TcpStream) -> Option<TcpStream> {
    let mut request = BufReader::new(stream.try_clone().ok()?).lines();
    while !request.next()?.ok()?.is_empty() {}
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").ok()?;
    // A client that does not read does not hold up the others.
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .ok()?;
    Some(stream)
}

/// Sends what is to be played, with `leave` as long as there is a client.
fn send(play: &Mutex<String>, clients: &Mutex<Vec<TcpStream>>, leave: bool) {
    loop {
        let now = play.lock().unwrap().clone();
        let (size, output) = now.split_once(' ').unwrap();
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i"])
            .arg(format!("testsrc2=size={size}:rate=15"))
            .args(["-pix_fmt", "yuv420p"])
            .args(output.split(' '))
            .args(["-flush_packets", "1", "pipe:1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = ffmpeg.stdout.take().unwrap();
        let mut buffer = [0; 4096];
        let (mut left, mut over) = (false, false);
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            let mut clients = clients.lock().unwrap();
            clients.retain_mut(|client| client.write_all(&buffer[..count]).is_ok());
            left = leave && clients.is_empty();
            if left {
                break;
            }
            if !over && *play.lock().unwrap() != now {
                // It ends with a whole picture.
                kill_process(pid_of(ffmpeg.id()), Signal::TERM).unwrap();
                over = true;
            }
        }
        drop(output);
        let _ = ffmpeg.wait();
        if left {
            return;
        }
    }
}
