//! Certificates of private authorities, and a broker that serves one of them.

use super::rabbit::Rabbit;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Validity of a certificate, as arguments of `openssl ca`. That command takes dates in every
/// release; `openssl x509` refuses a negative number of days from OpenSSL 3.5 on, and takes dates
/// from 3.4 on.
const CURRENT: &str = "-days 2";
const PAST: &str = "-startdate 20200101000000Z -enddate 20200102000000Z";
const FUTURE: &str = "-startdate 20400101000000Z -enddate 20410101000000Z";

/// The minimal configuration of `openssl ca`.
const AUTHORITY: &str = "[ca]\ndefault_ca=this\n[this]\ndatabase=issued\nnew_certs_dir=.\n\
    rand_serial=yes\ndefault_md=sha256\npolicy=any\nunique_subject=no\n\
    [any]\ncommonName=supplied\n";

/// A folder of certificates. `good`, `misnamed`, `expired` and `early` (not valid yet) are of the
/// authority `ca`, `foreign` of `other-ca`, `alone` is self-signed; `board` is a client's, of `ca`.
/// Its key is there as PKCS#8 (`board.key`), as PKCS#1 (`board-pkcs1.key`) and encrypted
/// (`board-encrypted.key`); `sec1.pem` and `sec1.key` are on an elliptic curve. `empty.pem` is an
/// empty file.
#[derive(Debug)]
pub struct Tls {
    dir: PathBuf,
}

impl Tls {
    pub fn new(dir: &Path) -> Self {
        let tls = Self { dir: dir.into() };
        std::fs::write(dir.join("authority.conf"), AUTHORITY).unwrap();
        std::fs::write(dir.join("issued"), "").unwrap();
        for name in ["ca", "other-ca"] {
            tls.openssl(&format!(
                "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key \
                 -out {name}.pem"
            ));
        }
        tls.certificate("good", "IP:127.0.0.1", CURRENT, "ca");
        tls.certificate("misnamed", "DNS:broker.example", CURRENT, "ca");
        tls.certificate("expired", "IP:127.0.0.1", PAST, "ca");
        tls.certificate("early", "IP:127.0.0.1", FUTURE, "ca");
        tls.own_certificate("alone", "IP:127.0.0.1");
        tls.certificate("foreign", "IP:127.0.0.1", CURRENT, "other-ca");
        tls.certificate("board", "DNS:board", CURRENT, "ca");
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

    /// Makes the broker use this certificate from now on.
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
    fn certificate(&self, name: &str, alt_name: &str, validity: &str, ca: &str) {
        let extensions = format!("subjectAltName={alt_name}");
        std::fs::write(self.dir.join("extensions"), extensions).unwrap();
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "ca -batch -config authority.conf -cert {ca}.pem -keyfile {ca}.key {validity} \
             -in {name}.csr -extfile extensions -notext -out {name}.pem"
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
