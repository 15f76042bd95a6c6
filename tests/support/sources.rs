//! Real sources on one machine: RTSP, RTMP, HTTP and a file.
//!
//! A source is a process group that ends when its guard is dropped.

use super::guarded::{self, Guarded};
use super::{TempDir, free_port, listening, wait_until};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// GStreamer loads its plugins at the first start, which is slow on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Serves one client after another: FFmpeg as a server ends with its first client.
const AGAIN_AND_AGAIN: &str = "while :; do \"$@\"; sleep 0.1; done";

/// A camera that runs.
#[derive(Debug)]
pub struct Source {
    url: String,
    process: Guarded,
}

impl Source {
    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it: connections break, the port is closed.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// FFmpeg as an RTMP server: H.264 with sound, one client at a time.
    pub fn rtmp(fps: u32) -> Self {
        let port = free_port();
        let url = format!("rtmp://127.0.0.1:{port}/live/camera");
        let mut args = test_picture(fps);
        args.extend(words("-re -f lavfi -i sine=frequency=440"));
        args.extend(words("-c:v libx264 -preset ultrafast -tune zerolatency"));
        args.extend(words("-pix_fmt yuv420p -c:a aac -f flv -listen 1"));
        args.extend(["-g".to_owned(), fps.to_string(), url.clone()]);
        Self::ffmpeg_server(port, url, &args)
    }

    /// FFmpeg as an HTTP server of Motion JPEG, one client at a time.
    pub fn http(fps: u32) -> Self {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}/");
        let mut args = test_picture(fps);
        args.extend(words("-q:v 5 -f mpjpeg -listen 1"));
        args.extend([
            "-content_type".to_owned(),
            "multipart/x-mixed-replace;boundary=ffmpeg".to_owned(),
            url.clone(),
        ]);
        Self::ffmpeg_server(port, url, &args)
    }

    fn ffmpeg_server(port: u16, url: String, args: &[String]) -> Self {
        let mut command = guarded::command("sh", None);
        command
            .args(["-c", AGAIN_AND_AGAIN, "source", "ffmpeg"])
            .args(["-hide_banner", "-nostdin", "-loglevel", "error"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let source = Self {
            url,
            process: Guarded::spawn(&mut command),
        };
        wait_until(START_LIMIT, "FFmpeg to listen", || listening(port));
        source
    }
}

/// An RTSP server with one camera per mount.
#[derive(Debug)]
pub struct Rtsp {
    port: u16,
    credentials: String,
    args: Vec<String>,
    process: Guarded,
}

/// One camera of an [`Rtsp`] server.
#[derive(Debug, Clone, Copy)]
pub struct Mount {
    pub name: &'static str,
    /// One of GStreamer's test pictures: smpte, ball, red, green, blue, ...
    pub pattern: &'static str,
    pub fps: u32,
    pub width: u32,
    pub height: u32,
    /// How many of 100 RTP packets are lost.
    pub loss_percent: u32,
    /// GStreamer's x264enc or x265enc with its properties; empty: H.264 with a keyframe a second.
    pub encoder: &'static str,
}

impl Mount {
    /// 320x240 at 15 fps.
    pub fn new(name: &'static str, pattern: &'static str) -> Self {
        Self {
            name,
            pattern,
            fps: 15,
            width: 320,
            height: 240,
            loss_percent: 0,
            encoder: "",
        }
    }

    /// The same, encoded so.
    pub fn encoder(self, encoder: &'static str) -> Self {
        Self { encoder, ..self }
    }
}

impl Rtsp {
    /// Serves these cameras to everybody.
    pub fn start(mounts: &[Mount]) -> Self {
        Self::start_with(mounts, None)
    }

    /// Serves them to clients with `(user, password)`.
    pub fn start_with(mounts: &[Mount], login: Option<(&str, &str)>) -> Self {
        let port = free_port();
        let args = Self::args(port, mounts, login);
        Self {
            process: Self::serve(port, &args),
            port,
            credentials: login.map_or_else(String::new, |(user, password)| {
                format!("{user}:{password}@")
            }),
            args,
        }
    }

    fn args(port: u16, mounts: &[Mount], login: Option<(&str, &str)>) -> Vec<String> {
        let mut args = vec![port.to_string()];
        if let Some((user, password)) = login {
            args.extend(["--auth".to_owned(), format!("{user}:{password}")]);
        }
        args.extend(mounts.iter().map(|mount| {
            let Mount {
                name,
                pattern,
                fps,
                width,
                height,
                loss_percent,
                encoder,
            } = mount;
            format!("{name}={pattern},{fps},{width},{height},{loss_percent},{encoder}")
        }));
        args
    }

    fn serve(port: u16, args: &[String]) -> Guarded {
        // The system's Python: another one in PATH may lack GStreamer.
        let mut command = guarded::command("/usr/bin/python3", None);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/support/rtsp_server.py"
            ))
            .args(args)
            .stdout(Stdio::null());
        let mut process = Guarded::spawn(&mut command);
        wait_until(START_LIMIT, "the RTSP server to listen", || {
            assert!(process.ended().is_none(), "the RTSP server does not start");
            listening(port)
        });
        process
    }

    /// After [`kill`](Self::kill): serves the same again.
    pub fn start_again(&mut self) {
        self.process = Self::serve(self.port, &self.args);
    }

    /// Serves other cameras, or to other users, on the same port. Addresses of cameras do not
    /// change.
    pub fn serve_instead(&mut self, mounts: &[Mount], login: Option<(&str, &str)>) {
        self.kill();
        self.process = Self::serve(self.port, &Self::args(self.port, mounts, login));
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of a camera by way of another port, with credentials if the server wants them.
    pub fn url_through(&self, port: u16, mount: &str) -> String {
        format!("rtsp://{}127.0.0.1:{port}/{mount}", self.credentials)
    }

    /// Address of a camera, with credentials if the server wants them.
    pub fn url(&self, mount: &str) -> String {
        format!("rtsp://{}127.0.0.1:{}/{mount}", self.credentials, self.port)
    }

    /// Address of a camera without credentials.
    pub fn bare_url(&self, mount: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{mount}", self.port)
    }

    /// Stops it: connections break, the port is closed.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The server's process, for example to stop it.
    pub fn process(&self) -> &Guarded {
        &self.process
    }
}

/// A film of 3 s, H.264 with sound, 320x240 at 15 fps.
#[derive(Debug)]
pub struct Film {
    dir: TempDir,
}

impl Film {
    pub fn make() -> Self {
        let dir = TempDir::new("film");
        let film = Self { dir };
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-loglevel", "error"])
            .args(words("-f lavfi -i testsrc2=size=320x240:rate=15"))
            .args(words("-f lavfi -i sine=frequency=440 -t 3"))
            .args(words("-c:v libx264 -preset ultrafast -g 15"))
            .args(words("-pix_fmt yuv420p -c:a aac"))
            .arg(film.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        film
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("film.mp4")
    }
}

/// A camera's URL for a picture of one colour, which identifies the camera, see
/// [`jpeg::dominant_color`](super::jpeg::dominant_color).
pub fn color_url([red, green, blue]: [u8; 3], fps: u32) -> String {
    format!("lavfi:color=c=0x{red:02X}{green:02X}{blue:02X}:size=320x240:rate={fps}")
}

fn test_picture(fps: u32) -> Vec<String> {
    words(&format!("-re -f lavfi -i testsrc2=size=320x240:rate={fps}"))
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
