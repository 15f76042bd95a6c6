//! Clips of numbered pictures, made by the real FFmpeg and kept below target/: each is encoded
//! once.

use crate::picture::{Look, Matrix};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// Raised when pictures or encoder settings change: clips of another layout are not taken again.
const LAYOUT: u32 = 3;
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/clips");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    H264,
    H265,
    Mjpeg,
}

/// What a clip is made of. The first picture has number `first`, and each second has `fps` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Film {
    pub codec: Codec,
    pub fps: u32,
    pub seconds: u32,
    /// Pictures from one keyframe to the next.
    pub interval: u32,
    pub look: Look,
    pub first: u16,
    /// Whether the stream says its matrix.
    pub tagged: bool,
    pub b_frames: bool,
    /// No keyframe but the first: a column of intra blocks passes through the pictures instead.
    pub intra_refresh: bool,
}

impl Film {
    /// Four seconds of H.264 at 15 fps, a keyframe each second.
    pub const H264: Self = Self {
        codec: Codec::H264,
        fps: 15,
        seconds: 4,
        interval: 15,
        look: Look::SMALL,
        first: 0,
        tagged: true,
        b_frames: false,
        intra_refresh: false,
    };

    /// The clip. The first test that wants it encodes it, the others wait.
    pub fn clip(self) -> Arc<Clip> {
        let elementary = self.elementary();
        let data = fs::read(elementary).unwrap();
        let units = match self.codec {
            Codec::Mjpeg => jpegs(&data),
            _ => access_units(&data, self.codec),
        };
        let pictures = self.fps * self.seconds;
        assert_eq!(units.len(), pictures as usize, "pictures of {self:?}");
        Arc::new(Clip { film: self, units })
    }

    /// The elementary stream as a file.
    fn elementary(self) -> PathBuf {
        let format = match self.codec {
            Codec::H264 => "h264",
            Codec::H265 => "hevc",
            Codec::Mjpeg => "image2pipe",
        };
        self.file(format)
    }

    /// The film in a container, which has time stamps.
    pub fn mp4(self) -> PathBuf {
        self.file("mp4")
    }

    fn file(self, format: &str) -> PathBuf {
        static ENCODING: Mutex<()> = Mutex::new(());
        let path = Path::new(FOLDER).join(format!("{}.{format}", self.name()));
        let _alone = ENCODING.lock().unwrap_or_else(|poison| poison.into_inner());
        if !path.exists() {
            fs::create_dir_all(FOLDER).unwrap();
            let new = path.with_extension(format!("new-{}", std::process::id()));
            self.encode(format, &new);
            fs::rename(new, &path).unwrap();
        }
        path
    }

    fn name(self) -> String {
        let Look {
            width,
            height,
            chroma,
            matrix,
            full_range,
        } = self.look;
        let flags = [self.tagged, self.b_frames, self.intra_refresh, full_range].map(u8::from);
        format!(
            "{LAYOUT}-{:?}-{}-{}-{}-{width}x{height}-{chroma:?}-{matrix:?}-{}-{flags:?}",
            self.codec, self.fps, self.seconds, self.interval, self.first
        )
    }

    fn encode(self, format: &str, to: &Path) {
        let Look { width, height, .. } = self.look;
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-y", "-hide_banner", "-loglevel", "error", "-f", "rawvideo"])
            .args([
                "-pix_fmt",
                self.look.pix_fmt(),
                "-s",
                &format!("{width}x{height}"),
            ])
            .args(["-r", &self.fps.to_string(), "-i", "pipe:0", "-threads", "1"])
            .args(self.encoder())
            .args(["-f", format])
            .arg(to)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pictures = ffmpeg.stdin.take().unwrap();
        for number in 0..self.fps * self.seconds {
            let number = self.first + u16::try_from(number).unwrap();
            // FFmpeg's own words are the better message.
            if pictures.write_all(&self.look.draw(number)).is_err() {
                break;
            }
        }
        drop(pictures);
        let output = ffmpeg.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "FFmpeg cannot encode {self:?}: {said}"
        );
    }

    /// The tags go into the bit stream only: told to FFmpeg they would have it convert.
    fn encoder(self) -> Vec<String> {
        let interval = self.interval;
        let mut settings = format!("keyint={interval}:min-keyint={interval}:scenecut=0:aud=1");
        let matrix = match self.look.matrix {
            Matrix::Bt601 => "smpte170m",
            Matrix::Bt709 => "bt709",
        };
        if self.tagged {
            settings += &format!(":colorprim={matrix}:transfer={matrix}:colormatrix={matrix}");
        }
        settings += if self.b_frames {
            ":bframes=2:b-adapt=0"
        } else {
            ":bframes=0"
        };
        let (encoder, key) = match self.codec {
            Codec::H264 => ("libx264", "-x264-params"),
            Codec::H265 => ("libx265", "-x265-params"),
            Codec::Mjpeg => {
                // The standard Huffman tables, which a camera may leave out.
                let words = "-c:v mjpeg -q:v 2 -huffman default -strict -2 -color_range pc";
                return words.split(' ').map(str::to_owned).collect();
            }
        };
        match self.codec {
            Codec::H265 => {
                settings += ":repeat-headers=1:log-level=error:pools=1:frame-threads=1";
                settings += if self.look.full_range {
                    ":range=full"
                } else {
                    ":range=limited"
                };
            }
            _ => {
                settings += if self.look.full_range {
                    ":fullrange=on"
                } else {
                    ":fullrange=off"
                }
            }
        }
        if self.intra_refresh {
            settings += ":intra-refresh=1";
        }
        let preset = if self.codec == Codec::H265 {
            "ultrafast"
        } else {
            "veryfast"
        };
        let words = [
            "-c:v", encoder, "-preset", preset, "-crf", "16", key, &settings,
        ];
        words.iter().map(|&word| word.to_owned()).collect()
    }
}

/// One picture as the camera sends it.
#[derive(Debug, Clone)]
pub struct Unit {
    /// NAL units without start codes, or one JPEG.
    pub parts: Vec<Vec<u8>>,
    pub key: bool,
}

/// A clip in memory, in the order in which it is sent.
#[derive(Debug)]
pub struct Clip {
    pub film: Film,
    pub units: Vec<Unit>,
}

impl Clip {
    /// The number of the picture at this place; only of clips without B frames.
    pub fn number(&self, at: usize) -> u16 {
        assert!(!self.film.b_frames, "pictures are not sent in their order");
        self.film.first + u16::try_from(at).unwrap()
    }

    /// Parameter sets, as the SDP has them.
    pub fn parameter_sets(&self) -> Vec<&[u8]> {
        let codec = self.film.codec;
        let is_set = |nal: &&Vec<u8>| match codec {
            Codec::H264 => matches!(nal_type(nal, codec), 7 | 8),
            _ => matches!(nal_type(nal, codec), 32..=34),
        };
        let first = &self.units[0].parts;
        first.iter().filter(is_set).map(Vec::as_slice).collect()
    }
}

fn nal_type(nal: &[u8], codec: Codec) -> u8 {
    match codec {
        Codec::H264 => nal[0] & 0x1f,
        _ => nal[0] >> 1 & 0x3f,
    }
}

/// Cuts an elementary stream at its access unit delimiters, which are left out: cameras send none.
fn access_units(data: &[u8], codec: Codec) -> Vec<Unit> {
    let delimiter = if codec == Codec::H264 { 9 } else { 35 };
    let mut units: Vec<Unit> = vec![];
    for nal in nal_units(data) {
        let kind = nal_type(nal, codec);
        if kind == delimiter {
            units.push(Unit {
                parts: vec![],
                key: false,
            });
            continue;
        }
        let unit = units.last_mut().expect("a delimiter first");
        unit.key |= match codec {
            Codec::H264 => kind == 5,
            _ => (16..=21).contains(&kind),
        };
        unit.parts.push(nal.to_vec());
    }
    units
}

fn nal_units(data: &[u8]) -> Vec<&[u8]> {
    let mut starts = vec![];
    let mut at = 0;
    while at + 3 <= data.len() {
        if data[at..at + 3] == [0, 0, 1] {
            starts.push(at);
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let nals = starts.iter().zip(ends);
    nals.map(|(start, end)| {
        let nal = &data[start + 3..end];
        let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
        &nal[..nal.len() - zeros]
    })
    .collect()
}

/// Cuts JPEGs that follow each other; FFmpeg writes no thumbnails into them.
pub fn jpegs(data: &[u8]) -> Vec<Unit> {
    let mut units = vec![];
    let mut start = 0;
    for at in 1..data.len() {
        if data[at - 1..=at] == [0xff, 0xd9] {
            let parts = vec![data[start..=at].to_vec()];
            units.push(Unit { parts, key: true });
            start = at + 1;
        }
    }
    units
}
