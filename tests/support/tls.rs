//! Certificates of authorities of our own, and a broker that serves one or the other.

use super::rabbit::Rabbit;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of certificates. `good`, `misnamed`, `expired` and `early` (not valid yet) are of the
/// authority `ca`, `foreign` of `other-ca`, `alone` is self-signed; `board` is a client's, of `ca`. Its
/// key is there as PKCS#8 (`board.key`), as PKCS#1 (`board-pkcs1.key`) and encrypted
/// (`board-encrypted.key`); `sec1.pem` and `sec1.key` are on an elliptic curve. `empty.pem` is an empty
/// file.
#[derive(Debug)]
pub struct Tls {
    dir: PathBuf,
}

impl Tls {
    pub fn new(dir: &Path) -> Self {
        let tls = Self { dir: dir.into() };
        for name in ["ca", "other-ca"] {
            tls.openssl(&format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key \
                 -out {name}.pem"
            ));
        }
        tls.certificate("good", "IP:127.0.0.1", 2, "ca");
        tls.certificate("misnamed", "DNS:broker.example", 2, "ca");
        tls.certificate("expired", "IP:127.0.0.1", -1, "ca");
        tls.early_certificate("early", "IP:127.0.0.1");
        tls.own_certificate("alone", "IP:127.0.0.1");
        tls.certificate("foreign", "IP:127.0.0.1", 2, "other-ca");
        tls.certificate("board", "DNS:board", 2, "ca");
        for conversion in [
            "-traditional -out board-pkcs1.key",
            "-aes256 -passout pass:pw -out board-encrypted.key",
        ] {
            tls.openssl(&format!("pkey -in board.key {conversion}"));
        }
        tls.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=board \
             -keyout sec1-pkcs8.key -out sec1.pem",
        );
        tls.openssl("ec -in sec1-pkcs8.key -out sec1.key");
        std::fs::write(dir.join("empty.pem"), "").unwrap();
        tls.install("good");
        tls
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Lines of `rabbitmq.conf` for a TLS listener that serves what was installed last.
    pub fn rabbit_config(&self, port: u16) -> String {
        format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}",
            self.path("ca.pem"),
            self.path("server.pem"),
            self.path("server.key"),
        )
    }

    /// Lets the broker show this certificate from now on.
    pub fn serve(&self, rabbit: &Rabbit, name: &str) {
        self.install(name);
        rabbit.ctl(&["eval", "ssl:clear_pem_cache()."]);
    }

    fn install(&self, name: &str) {
        for ending in ["pem", "key"] {
            let file = self.dir.join(format!("{name}.{ending}"));
            std::fs::copy(file, self.dir.join(format!("server.{ending}"))).unwrap();
        }
    }

    /// `NAME.pem` and `NAME.key`, for an address or name, by the authority `ca`.
    fn certificate(&self, name: &str, alt_name: &str, days: i32, ca: &str) {
        let extensions = format!("subjectAltName={alt_name}");
        std::fs::write(self.dir.join("extensions"), extensions).unwrap();
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days {days} \
             -extfile extensions -out {name}.pem"
        ));
    }

    /// `NAME.pem` and `NAME.key` by the authority `ca`, valid from the year 2040 on. Only `openssl ca`
    /// takes dates in each release.
    fn early_certificate(&self, name: &str, alt_name: &str) {
        let config = "[ca]\ndefault_ca=ca\ndatabase=early.index\nnew_certs_dir=.\nserial=early.serial\n\
                      default_md=sha256\npolicy=policy\n[policy]\ncommonName=supplied\n";
        for (file, text) in [
            ("early.conf", config),
            ("early.index", ""),
            ("early.serial", "4000\n"),
            ("early.extensions", &format!("subjectAltName={alt_name}")),
        ] {
            std::fs::write(self.dir.join(file), text).unwrap();
        }
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "ca -batch -notext -config early.conf -cert ca.pem -keyfile ca.key -in {name}.csr -out \
             {name}.pem -startdate 20400101000000Z -enddate 20410101000000Z -extfile early.extensions"
        ));
    }

    /// `NAME.pem` and `NAME.key`, self-signed.
    fn own_certificate(&self, name: &str, alt_name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext \
             basicConstraints=critical,CA:FALSE -addext subjectAltName={alt_name} -keyout {name}.key \
             -out {name}.pem"
        ));
    }

    fn openssl(&self, args: &str) {
        let output = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(&self.dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args}: {said}");
    }
}
