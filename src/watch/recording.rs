//! Writes the units of one camera that can be decoded into files, one for each epoch.

use super::gops::Step;
use super::table::plain;
use crate::frame::Codec;
use crate::message::{Headers, VideoHeaders};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Files of one camera and epoch: one for each run of the watch within a session of the camera, and
/// one after each failure. Each is tried for the next name.
const MOST_OF_AN_EPOCH: u32 = 1000;

/// Ends a sequence of H.265 pictures (NAL unit type 36). The pictures that are shown before the
/// next key unit may refer to the group before it (open GOP). After this mark a decoder drops them,
/// as it does at the beginning of a file.
const END_OF_SEQUENCE: &[u8] = &[0, 0, 0, 1, 36 << 1, 1];

/// The newest file of one camera.
#[derive(Debug, Default)]
pub(super) struct Recording(Option<Open>);

#[derive(Debug)]
struct Open {
    epoch: i64,
    codec: Codec,
    file: File,
    bytes: u64,
}

impl Recording {
    /// Writes the unit if it can be decoded. A key unit of a new epoch or codec begins a new file.
    /// After a failure the next key unit does.
    ///
    /// # Errors
    /// The file cannot be made or written. It ends with the last unit that was written whole.
    pub(super) fn write(
        &mut self,
        folder: &Path,
        headers: &Headers<'_>,
        video: &VideoHeaders,
        step: Step,
        unit: &[u8],
    ) -> io::Result<()> {
        if step == Step::Skip {
            return Ok(());
        }
        let (epoch, codec) = (headers.epoch, video.codec);
        let open = match self.0.take() {
            Some(open) if (open.epoch, open.codec) == (epoch, codec) => open,
            // Sessions are ordered by epoch: one from before belongs to another publisher.
            Some(open) if epoch < open.epoch => {
                self.0 = Some(open);
                return Ok(());
            }
            _ if !video.key => return Ok(()),
            _ => Open {
                epoch,
                codec,
                file: create(folder, &plain(&headers.camera_id, '_'), epoch, codec)?,
                bytes: 0,
            },
        };
        self.0 = Some(open.append(step, unit)?);
        Ok(())
    }
}

impl Open {
    fn append(mut self, step: Step, unit: &[u8]) -> io::Result<Self> {
        let anew = step == Step::Start && self.bytes > 0 && self.codec == Codec::H265;
        let mark = if anew { END_OF_SEQUENCE } else { &[] };
        let written = self.file.write_all(mark);
        if let Err(error) = written.and_then(|()| self.file.write_all(unit)) {
            // Without the part of a unit that a full disk has taken.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += (mark.len() + unit.len()) as u64;
        Ok(self)
    }
}

/// A file that was not there before: neither one of another run nor a link.
fn create(folder: &Path, id: &str, epoch: i64, codec: Codec) -> io::Result<File> {
    let mut number = 1;
    loop {
        let name = match number {
            1 => format!("{id}-{epoch}.{}", codec.name()),
            _ => format!("{id}-{epoch}-{number}.{}", codec.name()),
        };
        let created = File::options()
            .write(true)
            .create_new(true)
            .open(folder.join(name));
        match created {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_OF_AN_EPOCH =>
            {
                number += 1;
            }
            created => return created,
        }
    }
}
