//! A daemon with another `/etc/resolv.conf` and `/etc/hosts`, by mounts in its own namespace. Needs
//! root.

use super::TempDir;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const LOCALHOST: &str = "127.0.0.1 localhost\n";

/// The files, and the servers at the addresses in them.
#[derive(Debug)]
pub struct Etc {
    dir: TempDir,
    _mute: Mute,
}

#[derive(Debug)]
enum Mute {
    NameServer(UdpSocket),
    Broker(TcpListener),
}

impl Etc {
    /// The name server answers no question. `last` is the last part of its address.
    pub fn silent_name_server(last: u8) -> Self {
        let address = own_address(last);
        let socket = UdpSocket::bind((address, 53)).unwrap();
        let resolv_conf = format!("nameserver {address}\n");
        Self::new(&resolv_conf, LOCALHOST, Mute::NameServer(socket))
    }

    /// `twin.test` has two addresses, of which one takes connections to that port and says nothing;
    /// the other is 127.0.0.1.
    pub fn twin_name(last: u8, port: u16) -> Self {
        let address = own_address(last);
        let listener = TcpListener::bind((address, port)).unwrap();
        let hosts = format!("{LOCALHOST}{address} twin.test\n127.0.0.1 twin.test\n");
        Self::new("", &hosts, Mute::Broker(listener))
    }

    fn new(resolv_conf: &str, hosts: &str, mute: Mute) -> Self {
        let dir = TempDir::new("etc");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("resolv.conf"), resolv_conf).unwrap();
        fs::write(path("hosts"), hosts).unwrap();
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {resolv} /etc/resolv.conf && \
             mount --bind {hosts} /etc/hosts && exec \"$0\" \"$@\"' {program} \"$@\"\n",
            resolv = path("resolv.conf").display(),
            hosts = path("hosts").display(),
            program = env!("CARGO_BIN_EXE_edge-video"),
        );
        fs::write(path("run"), script).unwrap();
        fs::set_permissions(path("run"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, _mute: mute }
    }

    /// To be run in the daemon's place.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join("run")
    }
}

/// An address of loopback that no other test run uses.
fn own_address(last: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, last)
}
