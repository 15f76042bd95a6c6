//! A picture that carries its number, and colour patches: drawn as YUV, read back from RGB.
//!
//! ```text
//! top eighth      18 cells: white, the number's 16 bits, black
//! between         a luma wave that moves with each picture, over a still chroma gradient
//! bottom eighth   nine patches of one colour each
//! ```
//! Everything is drawn in the samples of the final pixel format, so no scaler changes it on the
//! way.

use crate::support::jpeg::Picture;

/// Colours of the patches. None is at the edge of what YUV can hold, where rounding is clipped.
const PATCHES: [[u8; 3]; 9] = [
    [220, 40, 40],
    [40, 200, 40],
    [40, 60, 220],
    [220, 220, 40],
    [40, 210, 210],
    [210, 40, 210],
    [235, 235, 235],
    [20, 20, 20],
    [128, 128, 128],
];
const CELLS: usize = 18;
/// Steps of the luma wave, and what it moves by from picture to picture.
const WAVE: usize = 128;
const STEP: usize = 20;
/// Blocks of the middle that are compared with the truth.
const GRID: (usize, usize) = (9, 5);
/// By how much a block's mean may be off, of 255. Lossy coding at the worst changes it by 8; where
/// the picture before shows through it is off by 30 somewhere.
const DAMAGE: f64 = 16.0;

/// How many samples share one chroma sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chroma {
    C420,
    C422,
    C444,
}

/// How colours are written as YUV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
    Bt601,
    Bt709,
}

/// All pictures of a clip have this in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Look {
    pub width: usize,
    pub height: usize,
    pub chroma: Chroma,
    pub matrix: Matrix,
    pub full_range: bool,
}

impl Look {
    /// Small, BT.601, limited range, 4:2:0: what most substreams are.
    pub const SMALL: Self = Self {
        width: 360,
        height: 208,
        chroma: Chroma::C420,
        matrix: Matrix::Bt601,
        full_range: false,
    };

    /// The name that FFmpeg has for the samples alone.
    pub fn pix_fmt(&self) -> &'static str {
        match self.chroma {
            Chroma::C420 => "yuv420p",
            Chroma::C422 => "yuv422p",
            Chroma::C444 => "yuv444p",
        }
    }

    /// The picture of this number: its Y, Cb and Cr planes.
    pub fn draw(&self, number: u16) -> Vec<u8> {
        let (across, down) = match self.chroma {
            Chroma::C420 => (2, 2),
            Chroma::C422 => (2, 1),
            Chroma::C444 => (1, 1),
        };
        let mut planes = Vec::with_capacity(self.width * self.height * 3);
        self.plane(&mut planes, number, 0, (1, 1));
        self.plane(&mut planes, number, 1, (across, down));
        self.plane(&mut planes, number, 2, (across, down));
        planes
    }

    fn plane(&self, out: &mut Vec<u8>, number: u16, plane: usize, (across, down): (usize, usize)) {
        let band = self.height / 8;
        let row = |what: &dyn Fn(usize) -> u8| -> Vec<u8> {
            (0..self.width).step_by(across).map(what).collect()
        };
        let cells = row(&|x| self.cell(number, x * CELLS / self.width)[plane]);
        let patches = row(&|x| self.patch(x * PATCHES.len() / self.width)[plane]);
        // The wave of all rows is the same, shifted: drawing must not cost more than encoding.
        let wave: Vec<_> = (0..self.width + WAVE).map(wave).collect();
        let across_row = row(&|x| (98 + x * 60 / self.width) as u8);
        for y in (0..self.height).step_by(down) {
            match plane {
                _ if y < band => out.extend(&cells),
                _ if y >= self.height - band => out.extend(&patches),
                0 => {
                    let at = (y + usize::from(number) * STEP) % WAVE;
                    out.extend(&wave[at..at + self.width]);
                }
                1 => out.extend(&across_row),
                _ => out.resize(
                    out.len() + across_row.len(),
                    (98 + y * 60 / self.height) as u8,
                ),
            }
        }
    }

    fn cell(&self, number: u16, cell: usize) -> [u8; 3] {
        let white = match cell {
            0 => true,
            17 => false,
            bit => number >> (16 - bit) & 1 == 1,
        };
        self.yuv(if white { [255; 3] } else { [0; 3] })
    }

    fn patch(&self, patch: usize) -> [u8; 3] {
        self.yuv(PATCHES[patch])
    }

    /// Red's and blue's share of luma.
    fn shares(&self) -> (f64, f64) {
        match self.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        }
    }

    /// What one step of luma and of chroma is worth, and where luma begins.
    fn scale(&self) -> (f64, f64, f64) {
        match self.full_range {
            true => (1.0, 1.0, 0.0),
            false => (219.0 / 255.0, 224.0 / 255.0, 16.0),
        }
    }

    fn yuv(&self, rgb: [u8; 3]) -> [u8; 3] {
        let [r, g, b] = rgb.map(f64::from);
        let (kr, kb) = self.shares();
        let (luma, chroma, black) = self.scale();
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        let cb = (b - y) / (2.0 * (1.0 - kb));
        let cr = (r - y) / (2.0 * (1.0 - kr));
        [y * luma + black, cb * chroma + 128.0, cr * chroma + 128.0].map(|v| v.round() as u8)
    }

    fn rgb(&self, yuv: [u8; 3]) -> [f64; 3] {
        let [y, cb, cr] = yuv.map(f64::from);
        let (kr, kb) = self.shares();
        let (luma, chroma, black) = self.scale();
        let (y, cb, cr) = (
            (y - black) / luma,
            (cb - 128.0) / chroma,
            (cr - 128.0) / chroma,
        );
        let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
        let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|v| v.clamp(0.0, 255.0))
    }

    /// By how much the patches are off at most, of 255.
    pub fn colour_error(&self, picture: &Picture) -> f64 {
        let of = |patch: usize| {
            let area = patch_area(picture, patch);
            let truth = self.rgb(self.patch(patch));
            let seen = area.mean(picture);
            (0..3).map(move |c| (seen[c] - truth[c]).abs())
        };
        (0..PATCHES.len()).flat_map(of).fold(0.0, f64::max)
    }

    /// Whether anything is grey, smeared or of another picture than this number's. The picture may
    /// have been scaled.
    pub fn is_damaged(&self, number: u16, picture: &Picture) -> bool {
        self.colour_error(picture) > 3.0 * DAMAGE || self.worst_block(number, picture) > DAMAGE
    }

    /// By how much the block of the middle that is most wrong is off, of 255 in green.
    pub fn worst_block(&self, number: u16, picture: &Picture) -> f64 {
        let band = picture.height / 8 + 2;
        let (columns, rows) = GRID;
        let (width, height) = (picture.width / columns, (picture.height - 2 * band) / rows);
        let off = |block: usize| {
            let (left, top) = (block % columns * width, band + block / columns * height);
            let area = Area {
                left,
                top,
                right: left + width,
                bottom: top + height,
            };
            (area.mean(picture)[1] - self.true_green(number, &area, picture)).abs()
        };
        (0..columns * rows).map(off).fold(0.0, f64::max)
    }

    /// The mean green of an area as it was drawn, from every fourth pixel.
    fn true_green(&self, number: u16, area: &Area, picture: &Picture) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for y in (area.top..area.bottom).step_by(4) {
            let y = y * self.height / picture.height;
            for x in (area.left..area.right).step_by(4) {
                let x = x * self.width / picture.width;
                let luma = wave((y + usize::from(number) * STEP) % WAVE + x);
                let cb = (98 + x * 60 / self.width) as u8;
                let cr = (98 + y * 60 / self.height) as u8;
                sum += self.rgb([luma, cb, cr])[1];
                count += 1.0;
            }
        }
        sum / count
    }
}

/// Up and down between 70 and 190: no edge, which lossy coding would spread.
fn wave(at: usize) -> u8 {
    let at = at % WAVE;
    (70 + at.min(WAVE - at) * 120 / (WAVE / 2)) as u8
}

/// The number of a picture; `None` if it cannot be read for certain.
pub fn number(picture: &Picture) -> Option<u16> {
    let mut bits = [false; CELLS];
    for (cell, bit) in bits.iter_mut().enumerate() {
        let (width, band) = (picture.width, picture.height / 8);
        let area = Area {
            left: cell * width / CELLS + width / CELLS / 4,
            right: (cell + 1) * width / CELLS - width / CELLS / 4,
            top: band / 4,
            bottom: band * 3 / 4,
        };
        let green = area.mean(picture)[1];
        if (80.0..175.0).contains(&green) {
            return None;
        }
        *bit = green > 128.0;
    }
    let number = bits[1..17]
        .iter()
        .fold(0, |n, bit| n << 1 | u16::from(*bit));
    (bits[0] && !bits[17]).then_some(number)
}

/// The middle of a patch, away from its edges.
fn patch_area(picture: &Picture, patch: usize) -> Area {
    let (width, band) = (picture.width, picture.height / 8);
    let side = width / PATCHES.len() / 3;
    Area {
        left: patch * width / PATCHES.len() + side,
        right: (patch + 1) * width / PATCHES.len() - side,
        top: picture.height - band * 5 / 8,
        bottom: picture.height - band * 2 / 8,
    }
}

struct Area {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Area {
    fn mean(&self, picture: &Picture) -> [f64; 3] {
        let (mut sums, mut count) = ([0u64; 3], 0u64);
        for y in self.top..self.bottom {
            let row = y * picture.width;
            for pixel in picture.rgb[(row + self.left) * 3..(row + self.right) * 3].chunks(3) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += u64::from(*value);
                }
                count += 1;
            }
        }
        sums.map(|sum| sum as f64 / count as f64)
    }
}
