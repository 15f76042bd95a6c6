//! Reads keys of a [`Document`](super::raw::Document) as checked values, collecting every problem.
//!
//! Each reading function takes a key that may be absent, and gives back its value: the default if
//! the key is absent, and also if it is wrong, because what has a problem is thrown away anyway.

use super::raw::{Entry, Node, Value};
use super::substitute::substitute;
use super::units::{duration_text, parse_duration, parse_size, size_text};
use crate::redact::{self, Hidden};
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// A complaint about one key.
#[derive(Debug)]
pub(super) struct Remark {
    /// Number of the key or value in the document.
    pub(super) at: usize,
    /// Full path, such as `cameras[2].fps`.
    pub(super) key: String,
    pub(super) message: String,
}

/// A key that is there and not empty.
#[derive(Debug, Clone)]
pub(super) struct Item<'d> {
    pub(super) key: String,
    pub(super) at: usize,
    node: &'d Node,
}

/// A mapping with known keys, or none at all.
#[derive(Debug)]
pub(super) struct Section<'d> {
    /// Full path; empty for the whole file.
    pub(super) key: String,
    pub(super) at: usize,
    entries: &'d [Entry],
}

impl<'d> Section<'d> {
    /// The key, unless it is absent or empty: both mean the default.
    pub(super) fn get(&self, key: &str) -> Option<Item<'d>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if matches!(entry.value.value, Value::Null) {
            return None;
        }
        Some(Item {
            key: self.path(key),
            at: entry.at,
            node: &entry.value,
        })
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }
}

/// A scalar after substitution.
struct Scalar {
    value: ScalarValue,
    text: String,
    /// How a message may call it.
    shown: String,
    /// Whether a variable was filled in.
    replaced: bool,
}

#[derive(Clone, Copy)]
enum ScalarValue {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

pub(super) struct Reader<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    pub(super) exists: &'a dyn Fn(&Path) -> bool,
    pub(super) problems: Vec<Remark>,
    pub(super) warnings: Vec<Remark>,
    /// Passwords and addresses read so far, for messages about other keys.
    pub(super) hidden: Hidden,
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, at: usize, key: &str, message: impl Into<String>) {
        self.problems.push(Remark {
            at,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// A problem of `item`.
    pub(super) fn refuse(&mut self, item: &Item<'_>, message: impl Into<String>) {
        self.problem(item.at, &item.key, message);
    }

    pub(super) fn warn(&mut self, item: &Item<'_>, message: impl Into<String>) {
        let message = message.into();
        self.warnings.push(Remark {
            at: item.at,
            key: item.key.clone(),
            message,
        });
    }

    /// The whole file.
    pub(super) fn root<'d>(&mut self, node: &'d Node, known: &[&str]) -> Section<'d> {
        self.mapping(node, node.at, String::new(), known)
    }

    /// A section of `parent`; an absent one is without keys.
    pub(super) fn section<'d>(
        &mut self,
        parent: &Section<'d>,
        key: &str,
        known: &[&str],
    ) -> Section<'d> {
        match parent.get(key) {
            Some(item) => self.mapping(item.node, item.at, item.key, known),
            None => Section {
                key: parent.path(key),
                at: parent.at,
                entries: &[],
            },
        }
    }

    /// An item of a list as a section.
    pub(super) fn element<'d>(&mut self, item: &Item<'d>, known: &[&str]) -> Section<'d> {
        self.mapping(item.node, item.at, item.key.clone(), known)
    }

    fn mapping<'d>(
        &mut self,
        node: &'d Node,
        at: usize,
        key: String,
        known: &[&str],
    ) -> Section<'d> {
        let Value::Map(entries) = &node.value else {
            if !(matches!(node.value, Value::Null) && key.is_empty()) {
                let message = format!(
                    "{} is not a section; its keys are {}",
                    kind(node),
                    list(known)
                );
                self.problem(at, &key, message);
            }
            return Section {
                key,
                at,
                entries: &[],
            };
        };
        let section = Section { key, at, entries };
        for (index, entry) in entries.iter().enumerate() {
            let path = section.path(&shown(&entry.key));
            if entries[..index]
                .iter()
                .any(|earlier| earlier.key == entry.key)
            {
                self.problem(entry.at, &path, "given twice; once is allowed");
            } else if !known.contains(&entry.key.as_str()) {
                let message = match nearest(&entry.key, known) {
                    Some(near) => format!("unknown key; did you mean \"{near}\"?"),
                    None => format!("unknown key; known are {}", list(known)),
                };
                self.problem(entry.at, &path, message);
            }
        }
        section
    }

    /// The items of a list, empty ones too; `what` says what it holds.
    pub(super) fn list<'d>(&mut self, item: Option<&Item<'d>>, what: &str) -> Vec<Item<'d>> {
        let Some(item) = item else { return Vec::new() };
        let Value::List(list) = &item.node.value else {
            self.refuse(
                item,
                format!("{} is not a list; write a list of {what}", kind(item.node)),
            );
            return Vec::new();
        };
        list.iter()
            .enumerate()
            .map(|(index, node)| Item {
                key: format!("{}[{index}]", item.key),
                at: node.at,
                node,
            })
            .collect()
    }

    /// The scalar of `item`; `None` after complaining. `wanted` says what is allowed.
    fn scalar(&mut self, item: &Item<'_>, wanted: &str) -> Option<Scalar> {
        let node = item.node;
        let value = match node.value {
            Value::Bool(value) => ScalarValue::Bool(value),
            Value::Int(value) => ScalarValue::Int(value),
            Value::Float(value) => ScalarValue::Float(value),
            Value::Text => ScalarValue::Text,
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.refuse(item, format!("{} is not a value; {wanted}", kind(node)));
                return None;
            }
        };
        if !matches!(value, ScalarValue::Text) {
            let text = node.text.clone();
            return Some(Scalar {
                value,
                shown: text.clone(),
                text,
                replaced: false,
            });
        }
        let substituted = match substitute(&node.text, self.lookup) {
            Ok(substituted) => substituted,
            Err(message) => {
                self.refuse(item, message);
                return None;
            }
        };
        if substituted.text.contains(char::is_control) {
            self.refuse(
                item,
                "a line break or another control character; only printable text is allowed",
            );
            return None;
        }
        let text = substituted.text;
        if substituted.replaced {
            // Never shown: it may be a secret that went to the wrong key.
            let shown = "what ${} stands for".to_owned();
            return Some(Scalar {
                value: retyped(&text),
                text,
                shown,
                replaced: true,
            });
        }
        let shown = format!("\"{}\"", printable(&redact::address(&text)));
        Some(Scalar {
            value,
            text,
            shown,
            replaced: false,
        })
    }

    /// Text that is not empty. Numbers and the like are taken as written.
    pub(super) fn text(&mut self, item: Option<&Item<'_>>) -> Option<String> {
        let item = item?;
        let text = self.scalar(item, "write text")?.text;
        if text.is_empty() {
            self.refuse(item, "empty; write some text, or leave the key out");
            return None;
        }
        Some(text)
    }

    /// The same, but it may be empty.
    pub(super) fn text_or_empty(&mut self, item: Option<&Item<'_>>) -> Option<String> {
        Some(self.scalar(item?, "write text")?.text)
    }

    pub(super) fn bool(&mut self, item: Option<&Item<'_>>, default: bool) -> bool {
        let Some(item) = item else { return default };
        let Some(scalar) = self.scalar(item, "true or false is allowed") else {
            return default;
        };
        // yes, no, on, off: YAML 1.1, which the files of version 2 were read as.
        match (scalar.value, scalar.text.to_ascii_lowercase().as_str()) {
            (ScalarValue::Bool(value), _) => value,
            (_, "yes" | "on") => true,
            (_, "no" | "off") => false,
            _ => {
                self.refuse(
                    item,
                    format!("{} is neither; true or false is allowed", scalar.shown),
                );
                default
            }
        }
    }

    pub(super) fn int<T>(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: Copy + Display + PartialOrd + TryFrom<i128>,
    {
        let Some(item) = item else { return default };
        let allowed = format!("{} to {} is allowed", range.start(), range.end());
        let Some(scalar) = self.scalar(item, &allowed) else {
            return default;
        };
        let number = match scalar.value {
            ScalarValue::Int(number) => number,
            // 15.0, as other programs write 15. A float beyond i128 becomes its end: out of range.
            ScalarValue::Float(number) if number.fract() == 0.0 => number as i128,
            _ => {
                self.refuse(
                    item,
                    format!("{} is not a whole number; {allowed}", scalar.shown),
                );
                return default;
            }
        };
        match T::try_from(number) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.refuse(item, format!("{} is out of range; {allowed}", scalar.shown));
                default
            }
        }
    }

    pub(super) fn float(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<f64>,
        default: f64,
    ) -> f64 {
        let Some(item) = item else { return default };
        let allowed = format!("{} to {} is allowed", range.start(), range.end());
        let Some(scalar) = self.scalar(item, &allowed) else {
            return default;
        };
        let number = match scalar.value {
            ScalarValue::Int(number) => number as f64,
            ScalarValue::Float(number) => number,
            _ => {
                self.refuse(item, format!("{} is not a number; {allowed}", scalar.shown));
                return default;
            }
        };
        if range.contains(&number) {
            return number;
        }
        // Also for a NaN, which is in no range.
        self.refuse(item, format!("{} is out of range; {allowed}", scalar.shown));
        default
    }

    pub(super) fn duration(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(item) = item else { return default };
        let allowed = format!(
            "{} to {} is allowed",
            duration_text(*range.start()),
            duration_text(*range.end())
        );
        let Some(scalar) = self.scalar(item, &allowed) else {
            return default;
        };
        let message = match parse_duration(&scalar.text) {
            Some(duration) if range.contains(&duration) => return duration,
            Some(_) => format!("{} is out of range; {allowed}", scalar.shown),
            None if parse_duration(&format!("{}s", scalar.text)).is_some() => {
                let example = if scalar.replaced { "5" } else { &scalar.text };
                format!("a unit is missing: write {example}s; {allowed}")
            }
            None => {
                format!(
                    "{} is not a duration such as 100ms, 5s, 5m, 1h; {allowed}",
                    scalar.shown
                )
            }
        };
        self.refuse(item, message);
        default
    }

    /// Bytes.
    pub(super) fn size(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let Some(item) = item else { return default };
        let allowed = format!(
            "{} to {} is allowed",
            size_text(*range.start()),
            size_text(*range.end())
        );
        let Some(scalar) = self.scalar(item, &allowed) else {
            return default;
        };
        let message = match parse_size(&scalar.text).map(usize::try_from) {
            Some(Ok(bytes)) if range.contains(&bytes) => return bytes,
            Some(_) => format!("{} is out of range; {allowed}", scalar.shown),
            None => format!(
                "{} is not a size such as 8MiB, 512KiB, 1MB or a number of bytes; {allowed}",
                scalar.shown
            ),
        };
        self.refuse(item, message);
        default
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        item: Option<&Item<'_>>,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(item) = item else { return default };
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let allowed = format!("allowed are {}", list(&names));
        let Some(scalar) = self.scalar(item, &allowed) else {
            return default;
        };
        match choices.iter().find(|(name, _)| scalar.text == *name) {
            Some((_, value)) => *value,
            None => {
                self.refuse(item, format!("{} is unknown; {allowed}", scalar.shown));
                default
            }
        }
    }

    /// Text that `parse` understands; `wanted` says what is allowed.
    pub(super) fn parsed<T>(
        &mut self,
        item: Option<&Item<'_>>,
        parse: impl Fn(&str) -> Option<T>,
        wanted: &str,
        default: T,
    ) -> T {
        let Some(item) = item else { return default };
        let Some(scalar) = self.scalar(item, wanted) else {
            return default;
        };
        match parse(&scalar.text) {
            Some(value) => value,
            None => {
                self.refuse(item, format!("{} does not fit; {wanted}", scalar.shown));
                default
            }
        }
    }
}

/// What a variable stands for, as if it had been written in its place without quotes.
fn retyped(text: &str) -> ScalarValue {
    if let Ok(number) = text.parse() {
        ScalarValue::Int(number)
    } else if let Ok(number) = text.parse() {
        ScalarValue::Float(number)
    } else {
        match text.to_ascii_lowercase().as_str() {
            "true" => ScalarValue::Bool(true),
            "false" => ScalarValue::Bool(false),
            _ => ScalarValue::Text,
        }
    }
}

/// What a value is, without showing it: where a section is wanted, anything may stand.
fn kind(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::Float(_) => "a number",
        Value::Text => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a section",
    }
}

/// `a, b, c`
fn list(names: &[&str]) -> String {
    names.join(", ")
}

/// `key` up to where it stops being a name. `{password:secret}` without a blank is a key, all of it.
fn shown(key: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    match key.find(|c| !is_name(c)) {
        Some(end) => format!("{}…", printable(&key[..end])),
        None => printable(key),
    }
}

/// `text` on one line, and not too long.
fn printable(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut out: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// The known key that `key` was probably meant to be.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // A longer one is no typing mistake, and would cost time.
    if key.len() > 64 {
        return None;
    }
    let key = key.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|known| (edit_distance(&key, known), *known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Insertions, deletions and replacements (Levenshtein), a swap of neighbours counting as one.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_recognised() {
        let known = [
            "url",
            "urls",
            "transport",
            "password",
            "password_file",
            "fps",
        ];
        for (key, meant) in [
            ("transprot", Some("transport")),
            ("Transport", Some("transport")),
            ("password-file", Some("password_file")),
            ("uri", Some("url")),
            ("pfs", Some("fps")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(key, &known), meant, "{key}");
        }
    }

    #[test]
    fn long_and_strange_texts_stay_on_one_short_line() {
        assert_eq!(printable("a\nb\u{7}"), "a\\nb\\u{7}");
        assert_eq!(printable(&"é".repeat(100)).chars().count(), 65);
    }
}
