//! Loads a file into a [`Config`], or returns the list of all its errors.

use super::Config;
use super::check::check;
use super::raw::Document;
use super::reader::{Reader, Remark};
use super::substitute::system_lookup;
use crate::os_error::error_text;
use crate::redact::{self, Hidden};
use std::fmt;
use std::io;
use std::path::Path;

/// A configuration, and what its owner should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// Checked.
    pub config: Config,
    /// One line each, `FILE:LINE: KEY: text`, without secrets. Nothing that keeps from running.
    pub warnings: Vec<String>,
}

/// One problem of a configuration. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named to the loader.
    pub file: String,
    /// Counted from 1; `None` if the file could not be read at all.
    pub line: Option<usize>,
    /// Full path of the key, such as `cameras[2].fps`; empty if the whole file is meant.
    pub key: String,
    /// What is wrong; what is allowed.
    pub message: String,
}

impl fmt::Display for ConfigError {
    /// `FILE:LINE: KEY: message`, one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// All problems of a configuration, in the order of the file; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The single problems.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    /// One line a problem, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads and checks the file `path`. `${NAME}` is looked up as the file NAME in
    /// `$CREDENTIALS_DIRECTORY`, then in the environment. Relative paths in the file start from the
    /// working directory.
    ///
    /// # Errors
    /// Every problem of the file at once.
    pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &file, &system_lookup),
            Err(error) => Err(ConfigErrors(vec![ConfigError {
                file,
                line: None,
                key: String::new(),
                message: format!("cannot be read: {}", error_text(&error)),
            }])),
        }
    }

    /// Checks `text`, which messages call `file`; `lookup` gives the values of `${NAME}`. Files
    /// that the text names (`password_file`, TLS) are read.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        file: &str,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, ConfigErrors> {
        let read_file = |path: &Path| std::fs::read_to_string(path);
        Self::parse_with(text, file, lookup, &read_file, &Path::exists)
    }

    /// As [`Config::parse`], but `read_file` gives the files that the text names, and `exists` says
    /// whether a camera's file or device is there.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse_with(
        text: &str,
        file: &str,
        lookup: &dyn Fn(&str) -> Option<String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Loaded, ConfigErrors> {
        // Editors on other systems put a byte order mark before the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let document = Document::parse(text).map_err(|error| {
            ConfigErrors(vec![ConfigError {
                file: file.to_owned(),
                line: Some(error.line),
                key: String::new(),
                message: redact::clean(&format!("not valid YAML: {}", error.message)).into_owned(),
            }])
        })?;
        let mut reader = Reader {
            lookup,
            read_file,
            exists,
            problems: Vec::new(),
            warnings: Vec::new(),
            hidden: Hidden::default(),
        };
        let config = check(&mut reader, &document.root);
        // Only now is every secret known.
        let Reader {
            problems,
            warnings,
            hidden,
            ..
        } = reader;
        let problems = located(problems, &document, file, &hidden);
        if problems.is_empty() {
            let warnings = located(warnings, &document, file, &hidden);
            let warnings = warnings.iter().map(ToString::to_string).collect();
            Ok(Loaded { config, warnings })
        } else {
            Err(ConfigErrors(problems))
        }
    }
}

/// `remarks` with their lines, in the order of the file, without secrets: a password that was
/// written in a wrong place too is not shown there either.
fn located(
    remarks: Vec<Remark>,
    document: &Document<'_>,
    file: &str,
    hidden: &Hidden,
) -> Vec<ConfigError> {
    let numbers: Vec<usize> = remarks.iter().map(|remark| remark.at).collect();
    let mut errors: Vec<ConfigError> = remarks
        .into_iter()
        .zip(document.lines(&numbers))
        .map(|(remark, line)| ConfigError {
            file: file.to_owned(),
            line: Some(line),
            key: hidden.clean(&remark.key).into_owned(),
            message: hidden.clean(&remark.message).into_owned(),
        })
        .collect();
    errors.sort_by_key(|error| error.line);
    errors
}
