//! Removes secrets from the output of a program that was given them (FFmpeg, the broker), in any
//! form.

use super::arguments::{Place, places};
use super::{MASK, address, clean, percent_decode, percent_encode, target};
use std::borrow::Cow;

/// The secrets that another program knows.
#[derive(Clone, Default)]
pub struct Hidden {
    /// The longest first, so that nothing is left of a secret that contains another one.
    needles: Vec<Needle>,
    /// The parts of the same things that are shown. A secret that equals a part of them is not
    /// masked, since the mask would reveal it.
    shown: String,
}

#[derive(Clone)]
struct Needle {
    text: String,
    shown: String,
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hidden({})", self.needles.len())
    }
}

impl Hidden {
    /// What FFmpeg knows from its arguments.
    pub fn of_arguments(args: &[String]) -> Self {
        let mut hidden = Self::default();
        for (arg, place) in places(args) {
            match place {
                Place::Harmless => {}
                Place::Address => hidden.hide_address(arg),
                Place::Secret => hidden.hide_value(arg),
            }
        }
        hidden
    }

    /// Hides `url` wherever it is repeated, with and without its scheme and host.
    pub fn hide_address(&mut self, url: &str) {
        let shown = address(url);
        if shown == url {
            return;
        }
        self.shown.push_str(&shown);
        self.push(url, &shown);
        let Some((_, after)) = url.split_once("://") else {
            return;
        };
        let slash = after.find('/').unwrap_or(after.len());
        if let Some((userinfo, _)) = after[..slash].rsplit_once('@') {
            self.push(&format!("{userinfo}@"), "***@");
            if let Some((_, password)) = userinfo.split_once(':') {
                self.hide(password);
            }
        }
        // A request names it without scheme and host.
        let rest = &after[slash..];
        let cut = target(rest);
        if cut != rest {
            self.push(rest, &cut);
            for part in rest.split(['/', '?', '&', '#', ';', '=']) {
                self.hide(part);
            }
        }
    }

    /// Hides the value of an option: each line of it, and what follows a header's name.
    fn hide_value(&mut self, value: &str) {
        self.hide(value);
        for line in value.split(['\r', '\n']) {
            self.hide(line);
            if let Some((_, value)) = line.split_once(':') {
                self.hide(value.trim());
            }
        }
    }

    /// Hides `secret` wherever it is repeated: as it is, percent-encoded or decoded, or within
    /// quotes in JSON or Rust. Only one that cannot be taken for an ordinary word or number: to
    /// replace every `camera` would damage what is said, and tell the password by its gaps.
    pub fn hide(&mut self, secret: &str) {
        if !is_distinct(secret) || self.shown.contains(secret) {
            return;
        }
        let encoded = percent_encode(secret);
        let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
        let decoded = percent_decode(secret).filter(|decoded| is_distinct(decoded));
        let lower = lower_escapes(&encoded);
        for form in [secret, &encoded, &lower, &quoted] {
            self.push(form, MASK);
        }
        if let Some(decoded) = decoded.filter(|decoded| decoded != secret) {
            self.hide(&decoded);
        }
    }

    fn push(&mut self, text: &str, shown: &str) {
        let longer = |needle: &Needle| needle.text.len() > text.len();
        let at = self.needles.partition_point(longer);
        let alike = self.needles.iter().skip(at);
        let mut alike = alike.take_while(|needle| needle.text.len() == text.len());
        if alike.any(|needle| needle.text == text) {
            return;
        }
        let needle = Needle {
            text: text.to_owned(),
            shown: shown.to_owned(),
        };
        self.needles.insert(at, needle);
    }

    /// `text` without what is hidden.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for needle in &self.needles {
            if let Some(replaced) = needle.replaced(&out) {
                out = Cow::Owned(replaced);
            }
        }
        out
    }
}

impl Needle {
    /// `text` with what is looked for replaced, if it is there. What is not distinct has to stand
    /// by itself: the path `/1` is not a part of `25/12`.
    fn replaced(&self, text: &str) -> Option<String> {
        let distinct = is_distinct(&self.text);
        let is_word = |c: Option<char>| !distinct && c.is_some_and(char::is_alphanumeric);
        let (first, last) = (self.text.chars().next(), self.text.chars().next_back());
        let mut out: Option<String> = None;
        let mut copied = 0;
        for (at, found) in text.match_indices(self.text.as_str()) {
            let before = text[..at].chars().next_back();
            let after = text[at + found.len()..].chars().next();
            let joined = (is_word(first) && is_word(before)) || (is_word(last) && is_word(after));
            if joined {
                continue;
            }
            let out = out.get_or_insert_default();
            out.push_str(&text[copied..at]);
            out.push_str(&self.shown);
            copied = at + found.len();
        }
        let mut out = out?;
        out.push_str(&text[copied..]);
        Some(out)
    }
}

/// Whether `secret` cannot be an ordinary word or number: of two kinds of characters and 8 bytes,
/// or of three kinds and 6.
fn is_distinct(secret: &str) -> bool {
    let kinds: [fn(char) -> bool; 4] = [
        |c| c.is_lowercase(),
        |c| c.is_uppercase(),
        |c| c.is_ascii_digit(),
        |c| !c.is_alphanumeric(),
    ];
    let kinds = kinds.iter().filter(|is| secret.contains(**is)).count();
    kinds >= 2 && secret.len() >= 8 || kinds >= 3 && secret.len() >= 6
}

/// `%2F` as `%2f`.
fn lower_escapes(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        out.push('%');
        out.push_str(&digits.to_ascii_lowercase());
        out.push_str(rest);
    }
    out
}

/// Masks in a line from FFmpeg or the broker the secrets of `hidden`, and any other URL or login.
pub fn words(line: &str, hidden: &Hidden) -> String {
    /// At its loudest FFmpeg repeats its options like this.
    const ARGUMENT: &str = " with argument ";
    let line = match line.split_once(ARGUMENT) {
        Some((option, _)) => Cow::Owned(format!("{option}{ARGUMENT}{MASK}")),
        None => Cow::Borrowed(line),
    };
    clean(&hidden.clean(&line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Hidden {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Hidden::of_arguments(&args)
    }

    #[test]
    fn an_ordinary_word_as_password_neither_damages_a_report_nor_is_told_by_it() {
        for password in ["camera", "127", "admin", "stream1"] {
            let hidden = of(&["-i", &format!("rtsp://u:{password}@127.0.0.1:554/stream1")]);
            for line in [
                "[rtsp] camera refused: 127 admin",
                "Connection to tcp://127.0.0.1:554 failed",
                "stream1: 41273 bytes",
            ] {
                assert_eq!(words(line, &hidden), line);
            }
            assert_eq!(
                words(
                    &format!("rtsp://u:{password}@127.0.0.1:554/stream1: no"),
                    &hidden
                ),
                "rtsp://***@127.0.0.1:554/stream1: no"
            );
            assert_eq!(
                words(
                    &format!("option 'password' with argument '{password}'."),
                    &hidden
                ),
                "option 'password' with argument ***"
            );
        }
    }

    #[test]
    fn an_address_is_hidden_in_every_form() {
        // Blanks and quotes end a URL in any other text.
        let hidden = of(&["-i", "http://u:pa 's@h/cgi?loginpas=x y&apikey=Zk7-9%2F4"]);
        for (line, shown) in [
            (
                "http://u:pa 's@h/cgi?loginpas=x y&apikey=Zk7-9%2F4: Input/output error",
                "http://***@h/cgi?***: Input/output error",
            ),
            (
                "GET /cgi?loginpas=x y&apikey=Zk7-9%2F4 HTTP/1.1",
                "GET /cgi?*** HTTP/1.1",
            ),
            ("to u:pa 's@h", "to ***@h"),
            (
                "apikey Zk7-9%2F4, Zk7-9/4 or Zk7-9%2f4",
                "apikey ***, *** or ***",
            ),
            ("moved to http://other/a/b?c", "moved to http://other/a/***"),
        ] {
            assert_eq!(words(line, &hidden), shown);
        }
    }

    #[test]
    fn the_values_of_options_are_hidden_line_by_line() {
        let hidden = of(&[
            "-headers",
            "X-Key: q1w2e3r4\r\nX-Two: Zz9-55\r\n",
            "-f",
            "rawvideo1",
        ]);
        assert_eq!(words("> X-Key: q1w2e3r4", &hidden), "> ***");
        assert_eq!(
            words("key 'q1w2e3r4', rawvideo1", &hidden),
            "key '***', rawvideo1"
        );
        assert_eq!(words("x-two is Zz9-55", &hidden), "x-two is ***");
    }

    #[test]
    fn a_secret_is_hidden_in_every_form() {
        let mut hidden = Hidden::default();
        hidden.hide("s3cr3t/&word");
        hidden.hide("qu\"ot\\ed1");
        for (line, shown) in [
            ("x s3cr3t/&word y s3cr3t%2F%26word", "x *** y ***"),
            ("s3cr3t%2f%26word", "***"),
            ("as3cr3t/&words", "a***s"),
            ("\"qu\\\"ot\\\\ed1\"", "\"***\""),
        ] {
            assert_eq!(hidden.clean(line), shown);
        }
        assert_eq!(format!("{hidden:?}"), "Hidden(7)");
    }
}
