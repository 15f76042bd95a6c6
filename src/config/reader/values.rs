//! Reads a scalar as the value that a key wants.
//!
//! Each function takes a key that may be absent, and returns its value. It returns the default if
//! the key is absent, and also if it is wrong: a configuration with a problem is never used.

use super::words::{kind, list, printable};
use super::{Item, Reader};
use crate::config::raw::Value;
use crate::config::substitute::substitute;
use crate::config::units::{duration_text, parse_duration, parse_size, size_text};
use crate::redact;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

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

impl Reader<'_> {
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
            let shown = "the value of ${}".to_owned();
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
    pub(in crate::config) fn text(&mut self, item: Option<&Item<'_>>) -> Option<String> {
        let item = item?;
        let text = self.scalar(item, "write text")?.text;
        if text.is_empty() {
            self.refuse(item, "empty; write some text, or leave the key out");
            return None;
        }
        Some(text)
    }

    /// The same, but it may be empty.
    pub(in crate::config) fn text_or_empty(&mut self, item: Option<&Item<'_>>) -> Option<String> {
        Some(self.scalar(item?, "write text")?.text)
    }

    pub(in crate::config) fn bool(&mut self, item: Option<&Item<'_>>, default: bool) -> bool {
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
                    format!(
                        "{} is neither true nor false; write one of the two",
                        scalar.shown
                    ),
                );
                default
            }
        }
    }

    pub(in crate::config) fn int<T>(
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

    pub(in crate::config) fn float(
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

    pub(in crate::config) fn duration(
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
    pub(in crate::config) fn size(
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
    pub(in crate::config) fn choice<T: Copy>(
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
    pub(in crate::config) fn parsed<T>(
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
                self.refuse(item, format!("{} is not valid; {wanted}", scalar.shown));
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
