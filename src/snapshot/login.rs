//! The answer to a camera that asks for a login: RFC 7617 (basic), RFC 7616 (digest). Pure, but for
//! a random number.

use openssl::base64::encode_block;
use openssl::hash::{MessageDigest, hash};
use std::fmt::Write;

/// A login as the camera asks for it.
#[derive(Debug)]
pub(super) enum Login {
    Basic,
    Digest(Digest),
}

/// What the camera has said of a digest.
#[derive(Debug)]
pub(super) struct Digest {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// As the camera spells it.
    algorithm: Option<String>,
    /// SHA-256 instead of MD5.
    sha256: bool,
    session: bool,
    qop: bool,
    /// Requests with this nonce.
    count: u32,
}

impl Login {
    /// What to do for these `WWW-Authenticate` headers: the first digest that is known, else basic.
    pub(super) fn asked(challenges: &[String]) -> Option<Self> {
        let digest = challenges.iter().find_map(|it| Digest::parse(it));
        let is_basic = |it: &String| scheme(it).is_some_and(|(name, _)| name == "basic");
        let basic = || challenges.iter().any(is_basic).then_some(Self::Basic);
        digest.map(Self::Digest).or_else(basic)
    }

    /// The value of the header `Authorization` of the next request. `None`: the system has no such
    /// digest.
    pub(super) fn answer(&mut self, (user, password): (&str, &str), uri: &str) -> Option<String> {
        match self {
            Self::Basic => {
                let login = encode_block(format!("{user}:{password}").as_bytes());
                Some(format!("Basic {}", login.replace('\n', "")))
            }
            Self::Digest(digest) => {
                let mut random = [0; 8];
                rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).ok()?;
                digest.answer((user, password), uri, &hex(&random))
            }
        }
    }
}

impl Digest {
    fn parse(challenge: &str) -> Option<Self> {
        let (_, parameters) = scheme(challenge).filter(|(name, _)| name == "digest")?;
        let parameters = self::parameters(parameters);
        let of = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        let algorithm = of("algorithm");
        let spelled = algorithm.as_deref().unwrap_or("MD5").to_ascii_uppercase();
        let plain = spelled.trim_end_matches("-SESS");
        let qop = of("qop");
        let mut offers = qop.iter().flat_map(|qop| qop.split(','));
        Some(Self {
            realm: of("realm")?,
            nonce: of("nonce")?,
            opaque: of("opaque"),
            sha256: match plain {
                "MD5" => false,
                "SHA-256" => true,
                _ => return None,
            },
            session: plain.len() < spelled.len(),
            qop: offers.any(|offer| offer.trim().eq_ignore_ascii_case("auth")),
            algorithm,
            count: 0,
        })
    }

    fn answer(
        &mut self,
        (user, password): (&str, &str),
        uri: &str,
        cnonce: &str,
    ) -> Option<String> {
        let kind = match self.sha256 {
            true => MessageDigest::sha256(),
            false => MessageDigest::md5(),
        };
        let h = |text: String| Some(hex(&hash(kind, text.as_bytes()).ok()?));
        self.count += 1;
        let (realm, nonce, nc) = (&self.realm, &self.nonce, format!("{:08x}", self.count));
        let mut secret = h(format!("{user}:{realm}:{password}"))?;
        if self.session {
            secret = h(format!("{secret}:{nonce}:{cnonce}"))?;
        }
        let request = h(format!("GET:{uri}"))?;
        let response = match self.qop {
            true => h(format!("{secret}:{nonce}:{nc}:{cnonce}:auth:{request}"))?,
            false => h(format!("{secret}:{nonce}:{request}"))?,
        };
        let user = user.replace('\\', "\\\\").replace('"', "\\\"");
        let mut answer = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\""
        );
        if let Some(algorithm) = &self.algorithm {
            let _ = write!(answer, ", algorithm={algorithm}");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(answer, ", opaque=\"{opaque}\"");
        }
        if self.qop {
            let _ = write!(answer, ", qop=auth, nc={nc}, cnonce=\"{cnonce}\"");
        } else if self.session {
            let _ = write!(answer, ", cnonce=\"{cnonce}\"");
        }
        Some(answer)
    }
}

/// The scheme in small letters, and the rest.
fn scheme(challenge: &str) -> Option<(String, &str)> {
    let (name, rest) = challenge.trim().split_once(' ')?;
    Some((name.to_ascii_lowercase(), rest))
}

/// `name="value", name=value`: names in small letters, values without quotes and as they are.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = vec![];
    let mut rest = text;
    while let Some((name, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        found.push((name, value.trim().to_owned()));
        rest = behind;
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUFASA: (&str, &str) = ("Mufasa", "Circle of Life");
    const URI: &str = "/dir/index.html";

    fn digest(challenge: &str) -> Digest {
        Digest::parse(challenge).unwrap()
    }

    #[test]
    fn the_examples_of_the_standards_are_answered() {
        // RFC 7616, section 3.9.1.
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let mut digest = digest(&format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            ));
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let answer = digest.answer(MUFASA, URI, cnonce).unwrap();
            assert_eq!(
                answer,
                format!(
                    "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
                     nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                     uri=\"/dir/index.html\", response=\"{response}\", algorithm={algorithm}, \
                     opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\", qop=auth, \
                     nc=00000001, cnonce=\"{cnonce}\""
                )
            );
            let second = digest.answer(MUFASA, URI, cnonce).unwrap();
            assert!(second.contains("nc=00000002"), "{second}");
        }
        // RFC 2617, section 2.
        let basic = Login::asked(&["Basic realm=\"WallyWorld\"".to_owned()]);
        let answer = basic.unwrap().answer(("Aladdin", "open sesame"), "/");
        assert_eq!(answer.unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn without_qop_the_old_form_is_answered() {
        // RFC 2069, section 2.4, with the response that its errata have.
        let mut digest = digest(
            "Digest realm=\"testrealm@host.com\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"",
        );
        let user = ("Mufasa", "CircleOfLife");
        let answer = digest.answer(user, URI, "unused").unwrap();
        assert!(
            answer.ends_with("response=\"1949323746fe6a43ef61f9606e7febea\""),
            "{answer}"
        );
    }

    #[test]
    fn a_digest_that_is_known_is_preferred() {
        let asked = |challenges: &[&str]| {
            let challenges: Vec<String> = challenges.iter().map(|&it| it.to_owned()).collect();
            match Login::asked(&challenges) {
                None => "none".to_owned(),
                Some(Login::Basic) => "basic".to_owned(),
                Some(Login::Digest(digest)) => digest.nonce,
            }
        };
        let basic = "Basic realm=x";
        assert_eq!(asked(&[basic, "DIGEST realm=x,nonce=1"]), "1");
        let odd = "Digest realm=x, nonce=2, algorithm=SHA-512-256";
        assert_eq!(asked(&[odd, "Digest realm=x, nonce=\"3\""]), "3");
        assert_eq!(asked(&[odd, basic]), "basic");
        assert_eq!(asked(&[odd, "Negotiate", "", "Digest realm=x"]), "none");
    }
}
