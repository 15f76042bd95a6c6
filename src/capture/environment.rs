//! Which variables of the daemon's environment FFmpeg gets: others may contain the broker's
//! password.

use std::ffi::{OsStr, OsString};

/// Variables by their whole name.
const NAMES: &[&str] = &[
    // Where programs, fonts and presets are found, and where temporary files go.
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    // Language and time zone: `drawtext` writes text and times into the picture.
    "LANG",
    "LANGUAGE",
    "TZ",
    // Proxies on the way to cameras, and the certificates to trust.
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    // edge-video.service sets it, so that the C library uses fewer heaps.
    "MALLOC_ARENA_MAX",
    // Which GPU to use, and its OpenCL drivers.
    "DRI_PRIME",
    "OCL_ICD_VENDORS",
];

/// Variables by the beginning of their name.
const PREFIXES: &[&str] = &[
    "LC_", // Runtime and cache folders, where drivers store what they compiled.
    "XDG_",
    // FFMPEG_DATADIR. Not FFREPORT: FFmpeg would write its command line with the password to a
    // file.
    "FFMPEG_",
    // Hardware decoders: VA-API, VDPAU, Intel's oneVPL and Media SDK, NVIDIA's, Mesa's.
    "LIBVA_", "VDPAU_", "ONEVPL_", "MFX_", "CUDA_", "NVIDIA_", "MESA_",
];

/// The variables that FFmpeg gets.
pub(super) fn for_ffmpeg() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_for_ffmpeg(name))
}

fn is_for_ffmpeg(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ffmpeg_gets_what_it_needs_and_nothing_else() {
        for name in [
            "PATH",
            "LIBVA_DRIVER_NAME",
            "XDG_RUNTIME_DIR",
            "http_proxy",
            "LC_ALL",
        ] {
            assert!(is_for_ffmpeg(name.as_ref()), "{name}");
        }
        for name in [
            "AMQP_PASSWORD",
            "CREDENTIALS_DIRECTORY",
            "NOTIFY_SOCKET",
            "RUST_LOG",
            "FFREPORT",
            "LD_PRELOAD",
            "PATHS",
            "",
        ] {
            assert!(!is_for_ffmpeg(name.as_ref()), "{name}");
        }
    }
}
