//! What decodes a camera's stream, as the key `decode` says it.

/// What decodes a camera's stream for its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decode {
    /// The processor.
    Software,
    /// The first hardware decoder that works for this camera, or else the processor.
    Auto,
    /// This hardware decoder and nothing else.
    Only(Hardware),
}

/// A hardware decoder, by the interface through which FFmpeg uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardware {
    /// VA-API: Intel's and AMD's graphics.
    Vaapi,
    /// Quick Sync: Intel's graphics.
    Qsv,
    /// NVDEC: NVIDIA's cards.
    Cuda,
    /// V4L2 memory-to-memory: a Raspberry Pi 4 for H.264, many other boards.
    V4l2m2m,
    /// V4L2 without state, with buffers of DRM: a Raspberry Pi 4 or 5 for H.265.
    Drm,
    /// Media Process Platform: Rockchip's boards.
    Rkmpp,
}

impl Decode {
    /// Each with its name in the configuration.
    pub const ALL: [(&str, Self); 8] = [
        ("software", Self::Software),
        ("auto", Self::Auto),
        ("vaapi", Self::Only(Hardware::Vaapi)),
        ("qsv", Self::Only(Hardware::Qsv)),
        ("cuda", Self::Only(Hardware::Cuda)),
        ("v4l2m2m", Self::Only(Hardware::V4l2m2m)),
        ("drm", Self::Only(Hardware::Drm)),
        ("rkmpp", Self::Only(Hardware::Rkmpp)),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(_, it)| *it == self);
        known.map_or("software", |(name, _)| name)
    }
}

impl Hardware {
    /// Its name in the configuration, the metrics and the log.
    pub fn name(self) -> &'static str {
        Decode::Only(self).name()
    }

    /// Whether it is a decoder of its own, in place of FFmpeg's, which only hands parts of its work
    /// to the others. Such a one decodes every picture, whatever `-skip_frame` says.
    pub fn replaces_decoder(self) -> bool {
        matches!(self, Self::Qsv | Self::V4l2m2m | Self::Rkmpp)
    }
}
