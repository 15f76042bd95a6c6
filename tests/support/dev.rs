//! A daemon with another `/dev`, by mounts in its own namespace. Needs root.

use super::TempDir;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// What every program needs.
const COMMON: [&str; 4] = ["null", "zero", "random", "urandom"];

/// A folder that takes the place of `/dev`.
#[derive(Debug)]
pub struct Dev {
    dir: TempDir,
}

impl Dev {
    /// It has these devices, of which none works.
    pub fn with(devices: &[&str]) -> Self {
        let dir = TempDir::new("dev");
        let dev = dir.path().join("dev");
        for name in devices.iter().chain(&COMMON) {
            let path = dev.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'for it in {common}; do \
             mount --bind /dev/$it {dev}/$it || exit; done && mount --rbind {dev} /dev && \
             exec \"$0\" \"$@\"' {program} \"$@\"\n",
            common = COMMON.join(" "),
            dev = dev.display(),
            program = env!("CARGO_BIN_EXE_edge-video"),
        );
        let run = dir.path().join("run");
        fs::write(&run, script).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// To be run in the daemon's place.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join("run")
    }
}
