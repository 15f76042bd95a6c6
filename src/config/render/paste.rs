//! Writes one camera as lines to paste into a configuration file. Each secret is a variable there.

use super::{Yaml, escape, scalar};
use crate::config::substitute::system_lookup;
use crate::config::{Camera, Config, SourceKind};
use crate::redact::{self, MASK};

/// A camera as an item of the list `cameras`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Without a secret.
    pub yaml: String,
    /// The names of the variables that stand in the places of secrets.
    pub variables: Vec<String>,
}

impl Camera {
    /// A camera of this address with the default settings. `${NAME}` in it is replaced as in a
    /// configuration file.
    ///
    /// # Errors
    /// What is wrong with the address, and what is allowed; without secrets.
    pub fn of_url(id: &str, url: &str) -> Result<Self, String> {
        let text = format!("cameras:\n- id: {}\n  url: {}\n", scalar(id), scalar(url));
        match Config::parse(&text, "url", &system_lookup) {
            Ok(loaded) => {
                let camera = loaded.config.cameras.into_iter().next();
                camera.ok_or_else(|| "no address".to_owned())
            }
            Err(errors) => {
                let first = errors.errors().first();
                Err(first.map_or_else(String::new, |error| error.message.clone()))
            }
        }
    }

    /// What differs from the default settings, to paste below `cameras:`.
    pub fn to_paste(&self) -> Lines {
        let mut variables = Variables::of(&self.id);
        let mut y = Yaml {
            depth: 1,
            ..Yaml::default()
        };
        y.item();
        y.text("id", &self.id);
        for (key, text) in address(self, &mut variables) {
            y.entry(key, scalar(&text));
        }
        let plain = |camera: &Self| {
            let mut settings = Yaml {
                depth: 2,
                ..Yaml::default()
            };
            camera.settings(&mut settings);
            settings.out
        };
        let default = Self::of_url(&self.id, "lavfi:testsrc2");
        let default = default.map_or_else(|_| String::new(), |camera| plain(&camera));
        for line in plain(self).lines() {
            if !default.lines().any(|of_default| of_default == line) {
                y.out.push_str(line);
                y.out.push('\n');
            }
        }
        for (key, name, args) in [
            ("input_args", "INPUT_ARG", &self.input_args),
            ("output_args", "OUTPUT_ARG", &self.output_args),
        ] {
            if !args.is_empty() {
                y.escaped_list(key, variables.in_arguments(name, args));
            }
        }
        if !self.enabled {
            y.entry("enabled", false);
        }
        Lines {
            yaml: y.out,
            variables: variables.names,
        }
    }
}

/// The keys for the camera's address, with their values.
fn address(camera: &Camera, variables: &mut Variables) -> Vec<(&'static str, String)> {
    let whole = camera.source.address.expose();
    let network = matches!(
        camera.source.kind,
        SourceKind::Rtsp | SourceKind::Rtmp | SourceKind::Http
    );
    let Some((scheme, after)) = whole.split_once("://").filter(|_| network) else {
        let url = match (redact::address(whole) == whole, camera.source.kind) {
            (false, _) => variables.reference("URL"),
            (true, SourceKind::Lavfi) => escape(&format!("lavfi:{whole}")),
            (true, _) => escape(whole),
        };
        return vec![("url", url)];
    };
    let slash = after.find('/').unwrap_or(after.len());
    let (login, from_host) = match after.get(..slash).and_then(|it| it.rsplit_once('@')) {
        Some((login, _)) => (Some(login), after.get(login.len() + 1..)),
        None => (None, Some(after)),
    };
    let url = format!("{scheme}://{}", from_host.unwrap_or_default());
    let shown = redact::address(&url);
    let url = match shown.split_once(MASK) {
        None => escape(&url),
        Some((before, _)) if before.ends_with("://") => variables.reference("URL"),
        // What follows the first secret part is one value, however much of it is shown elsewhere.
        Some((before, _)) => format!("{}{}", escape(before), variables.reference("PATH")),
    };
    let mut keys = vec![("url", url)];
    if let Some(login) = login {
        keys.push(("username", variables.reference("USERNAME")));
        if login.contains(':') {
            keys.push(("password", variables.reference("PASSWORD")));
        }
    }
    keys
}

/// Names of variables for the secrets of one camera.
struct Variables {
    prefix: String,
    names: Vec<String>,
}

impl Variables {
    fn of(id: &str) -> Self {
        let fit = |c: char| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        };
        let name: String = id.chars().map(fit).collect();
        // A name does not begin with a digit.
        let prefix = match name.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("CAMERA_{name}"),
            false => name,
        };
        Self {
            prefix,
            names: Vec::new(),
        }
    }

    /// `${DOOR_PASSWORD}`
    fn reference(&mut self, of: &str) -> String {
        let name = format!("{}_{of}", self.prefix);
        let reference = format!("${{{name}}}");
        self.names.push(name);
        reference
    }

    /// FFmpeg's arguments, with variables for those that may be secret.
    fn in_arguments(&mut self, of: &str, args: &[String]) -> Vec<String> {
        let mut texts = Vec::new();
        for (n, (arg, shown)) in args.iter().zip(redact::arguments(args)).enumerate() {
            texts.push(match *arg == shown {
                true => escape(arg),
                false => self.reference(&format!("{of}_{}", n + 1)),
            });
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pasted(id: &str, url: &str) -> Lines {
        Camera::of_url(id, url).unwrap().to_paste()
    }

    #[test]
    fn an_address_is_pasted_with_variables_for_what_is_not_shown() {
        for (url, yaml, variables) in [
            ("rtsp://h:554/1", "url: rtsp://h:554/1", &[][..]),
            (
                "rtsp://u:s3cret@h/1",
                "url: rtsp://h/1\n    username: ${D_USERNAME}\n    password: ${D_PASSWORD}",
                &["D_USERNAME", "D_PASSWORD"],
            ),
            (
                "rtsp://u@h/1",
                "url: rtsp://h/1\n    username: ${D_USERNAME}",
                &["D_USERNAME"],
            ),
            (
                "rtmp://h/live/s3cret?x",
                "url: rtmp://h/live/${D_PATH}",
                &["D_PATH"],
            ),
            (
                "rtsp://h/user=u_password=s3cret.sdp?real",
                "url: rtsp://h/${D_PATH}",
                &["D_PATH"],
            ),
            (
                "http://h/cgi?key=s3cret",
                "url: http://h/cgi?${D_PATH}",
                &["D_PATH"],
            ),
            ("/films/a b.mp4", "url: /films/a b.mp4", &[]),
            ("lavfi:testsrc2", "url: lavfi:testsrc2", &[]),
            (
                "lavfi:movie=http\\\\://h/s3cret",
                "url: ${D_URL}",
                &["D_URL"],
            ),
        ] {
            let lines = pasted("d", url);
            assert_eq!(lines.yaml, format!("  - id: d\n    {yaml}\n"), "{url}");
            assert_eq!(lines.variables, variables, "{url}");
        }
    }

    #[test]
    fn what_is_pasted_loads_to_the_same_camera() {
        let text = "\
fps: 5
cameras:
- id: 1.door
  url: \"rtsp://h:8554/a/b?c=$${x}\"
  username: viewer
  password: \"p @:/$${y}\"
  transport: udp
  pictures: keyframes
  passthrough: true
  stale_timeout: 90s
  width: 640
  routing_key: x.y
  input_args: [-rtsp_flags, prefer_tcp, -user_agent, '${SECRET} $${z}']
  output_args: [-vf, hflip]
";
        let lookup = |name: &str| match name {
            "SECRET" => Some("s3cret".to_owned()),
            "CAMERA_1_DOOR_PATH" => Some("b?c=${x}".to_owned()),
            "CAMERA_1_DOOR_USERNAME" => Some("viewer".to_owned()),
            "CAMERA_1_DOOR_PASSWORD" => Some("p @:/${y}".to_owned()),
            "CAMERA_1_DOOR_INPUT_ARG_4" => Some("s3cret ${z}".to_owned()),
            _ => None,
        };
        let load = |text: &str| Config::parse(text, "c.yaml", &lookup).unwrap().config;
        let camera = load(text).cameras.remove(0);
        let lines = camera.to_paste();
        let again = load(&format!("cameras:\n{}", lines.yaml));
        assert_eq!(again.cameras, [camera], "{}", lines.yaml);
        assert_eq!(lines.variables.len(), 4, "{:?}", lines.variables);
        for hidden in ["s3cret", "viewer", "p @", "c="] {
            assert!(!lines.yaml.contains(hidden), "{}", lines.yaml);
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_in_words_without_secrets() {
        let error = |url| Camera::of_url("d", url).unwrap_err();
        assert!(error("gopher://u:s3cret@h/").starts_with("gopher:// is not a source; "));
        assert!(error("${NEVER_SET_HERE}").starts_with("${NEVER_SET_HERE} is not set; "));
        assert!(!error("rtsp://u:s3cret/x@h/").contains("s3cret"));
    }
}
