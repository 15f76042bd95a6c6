//! Replaces `${NAME}` in values of the configuration.

use std::path::Path;

/// A text with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    pub(super) text: String,
    /// Whether a variable was filled in: such a text may be a secret, and is never shown.
    pub(super) replaced: bool,
}

/// Fills in every `${NAME}` of `text`; `$${` stands for `${`. What was filled in is not looked at
/// again. An error says what is wrong and what to do.
pub(super) fn substitute(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Substituted, String> {
    let mut out = Substituted {
        text: String::with_capacity(text.len()),
        replaced: false,
    };
    let mut rest = text;
    while let Some(found) = rest.find("${") {
        if let Some(before) = rest[..found].strip_suffix('$') {
            out.text.push_str(before);
            out.text.push_str("${");
            rest = &rest[found + 2..];
            continue;
        }
        out.text.push_str(&rest[..found]);
        let (name, tail) = rest[found + 2..]
            .split_once('}')
            .filter(|(name, _)| is_name(name))
            .ok_or("\"${\" without a name and \"}\"; write ${NAME}, or $${ for the text ${")?;
        let value = lookup(name).ok_or_else(|| {
            format!(
                "${{{name}}} is not set; set it in the environment or as a credential of the \
                 service, or write $${{ for the text ${{"
            )
        })?;
        out.text.push_str(&value);
        out.replaced = true;
        rest = tail;
    }
    out.text.push_str(rest);
    Ok(out)
}

/// What [`substitute`] gives back as `text`.
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

/// Letters, digits and `_`, as in a shell; so it is also a plain file name.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name` from a file of systemd's `$CREDENTIALS_DIRECTORY`, else from the environment.
pub(super) fn system_lookup(name: &str) -> Option<String> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
    directory
        .and_then(|directory| credential(Path::new(&directory), name))
        .or_else(|| std::env::var(name).ok())
}

fn credential(directory: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(name)).ok()?;
    let text = without_newline(&text);
    Some(text.to_owned())
}

/// `text` without what editors and `echo` put around a line in a file: a byte order mark before it,
/// a newline behind it.
pub(super) fn without_newline(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".to_owned()),
            "B_2" => Some("${A}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn text(text: &str) -> Result<String, String> {
        substitute(text, &lookup).map(|out| out.text)
    }

    #[test]
    fn names_are_replaced_once() {
        assert_eq!(text("x${A}y${A}"), Ok("xalphayalpha".to_owned()));
        assert_eq!(text("${B_2}"), Ok("${A}".to_owned()));
        assert_eq!(text("${EMPTY}"), Ok(String::new()));
        assert_eq!(text("$A $ {A} $$ 5$"), Ok("$A $ {A} $$ 5$".to_owned()));
    }

    #[test]
    fn two_dollars_escape() {
        assert_eq!(text("$${A}"), Ok("${A}".to_owned()));
        assert_eq!(text("$$${A}"), Ok("$${A}".to_owned()));
        assert_eq!(text(&escape("${A} $${B")), Ok("${A} $${B".to_owned()));
        assert_eq!(
            substitute("$${A}", &lookup).map(|out| out.replaced),
            Ok(false)
        );
    }

    #[test]
    fn credentials_are_read() {
        let directory =
            std::env::temp_dir().join(format!("edge-video-creds-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("KEY"), "\u{feff}Yt3-credential-12\n").unwrap();
        assert_eq!(
            credential(&directory, "KEY").as_deref(),
            Some("Yt3-credential-12")
        );
        assert_eq!(credential(&directory, "OTHER"), None);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_environment_is_looked_up() {
        assert_eq!(system_lookup("PATH"), std::env::var("PATH").ok());
        assert_eq!(system_lookup("EDGE_VIDEO_NEVER_SET"), None);
    }

    #[test]
    fn unknown_and_broken_names_are_refused() {
        assert!(text("${C}").is_err_and(|error| error.starts_with("${C} is not set; ")));
        for broken in ["${", "${}", "${A", "${A B}", "${1}", "${../x}", "x${${A}}"] {
            assert!(
                text(broken).is_err_and(|e| e.contains("without a name")),
                "{broken}"
            );
        }
    }
}
