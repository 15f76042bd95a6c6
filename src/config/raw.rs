//! The configuration as written in YAML: a tree that knows its lines. The only file that knows
//! `serde_yaml`.
//!
//! `serde_yaml` gives line numbers in its errors only. So each key and value gets a number in the
//! order in which it is visited. To find the line of one, the text is walked again, and the walk
//! fails on purpose at that number: the error contains the line. This costs a walk for each
//! reported problem, and nothing for a good file. It cannot disagree with the parser, because it is
//! the parser. If there are many problems, one walk fails at each scalar in turn and continues.

mod walk;

use serde::de::DeserializeSeed;
use walk::{Goal, TAG, ValueSeed, Walk};

/// A value of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its number: what [`Document::line`] wants.
    pub(super) at: usize,
    pub(super) value: Value,
    /// A scalar as written, without quotes: `id: 007` is a fine name. Empty for lists and maps.
    pub(super) text: String,
}

/// What YAML takes a value for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The key's number.
    pub(super) at: usize,
    pub(super) value: Node,
}

/// A YAML text and its tree.
pub(super) struct Document<'a> {
    text: &'a str,
    pub(super) root: Node,
    /// Of each number, whether it is a scalar value.
    is_scalar: Vec<bool>,
}

/// At most this many walks are made to find lines. They take 0.1 s in a file of 5,000 lines.
const WALKS_MAX: usize = 32;

/// Not YAML, or YAML that a configuration does not need.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

impl<'a> Document<'a> {
    /// Reads `text`, merge keys (`<<`) applied.
    pub(super) fn parse(text: &'a str) -> Result<Self, SyntaxError> {
        // `serde_yaml` calls this an error, but all that is missing is said better later.
        if is_blank(text) {
            let root = Node {
                at: 0,
                value: Value::Null,
                text: String::new(),
            };
            return Ok(Self {
                text,
                root,
                is_scalar: Vec::new(),
            });
        }
        let mut typed = Walk::new(Goal::Types);
        let mut root = tree(&mut typed, text).map_err(|error| syntax_error(&error))?;
        let is_scalar = typed.is_scalar;
        let mut written = Walk::new(Goal::Texts {
            is_scalar: is_scalar.clone(),
        });
        let texts = tree(&mut written, text).map_err(|error| syntax_error(&error))?;
        take_texts(&mut root, texts);
        merge(&mut root).map_err(|(at, message)| SyntaxError {
            line: line_of(text, at),
            message,
        })?;
        Ok(Self {
            text,
            root,
            is_scalar,
        })
    }

    /// The lines of the keys and values with these numbers, counted from 1. Of many, a list or
    /// section has the line on which its first key or value stands.
    pub(super) fn lines(&self, numbers: &[usize]) -> Vec<usize> {
        if numbers.len() <= WALKS_MAX {
            return numbers.iter().map(|at| line_of(self.text, *at)).collect();
        }
        let mut walk = Walk::new(Goal::Lines {
            is_scalar: self.is_scalar.clone(),
        });
        // What it has found up to an error is right.
        let _ = tree(&mut walk, self.text);
        let line = |at: &usize| {
            let known = walk.lines.get(*at..).unwrap_or_default();
            known.iter().copied().find(|line| *line > 0).unwrap_or(1)
        };
        numbers.iter().map(line).collect()
    }
}

/// `text` as a YAML scalar that is read as text again.
pub(super) fn scalar(text: &str) -> String {
    match serde_yaml::to_string(text) {
        Ok(yaml) => yaml.trim_end_matches('\n').to_owned(),
        // Unreachable: writing a string into a string has no way to fail.
        Err(_) => "''".to_owned(),
    }
}

/// Nothing but comments.
fn is_blank(text: &str) -> bool {
    text.lines()
        .map(str::trim_start)
        .all(|line| line.is_empty() || line.starts_with('#'))
}

/// The tree that `walk` makes of `text`.
fn tree(walk: &mut Walk, text: &str) -> Result<Node, serde_yaml::Error> {
    ValueSeed(walk).deserialize(serde_yaml::Deserializer::from_str(text))
}

fn line_of(text: &str, at: usize) -> usize {
    if is_blank(text) {
        return 1;
    }
    match tree(&mut Walk::new(Goal::Stop { at }), text) {
        Ok(_) => 1,
        Err(error) => error.location().map_or(1, |location| location.line()),
    }
}

fn syntax_error(error: &serde_yaml::Error) -> SyntaxError {
    let mut message = error.to_string();
    // Before these `serde_yaml` puts the keys that lead there, and `{password:secret}` is a key.
    for own in ["invalid type: ", TAG] {
        if let Some(at) = message.rfind(own) {
            message.drain(..at);
        }
    }
    SyntaxError {
        line: error.location().map_or(1, |location| location.line()),
        message,
    }
}

/// Both trees come from the same text, so that they differ in their scalars only.
fn take_texts(typed: &mut Node, written: Node) {
    match (&mut typed.value, written.value) {
        (Value::List(typed), Value::List(written)) => {
            for (typed, written) in typed.iter_mut().zip(written) {
                take_texts(typed, written);
            }
        }
        (Value::Map(typed), Value::Map(written)) => {
            for (typed, written) in typed.iter_mut().zip(written) {
                take_texts(&mut typed.value, written.value);
            }
        }
        _ => typed.text = written.text,
    }
}

/// Replaces `<<: *base` by the keys of `base` that are not given anyway. Fails with the number of
/// the offending key.
fn merge(node: &mut Node) -> Result<(), (usize, String)> {
    match &mut node.value {
        Value::List(list) => list.iter_mut().try_for_each(merge),
        Value::Map(map) => {
            for entry in map.iter_mut() {
                merge(&mut entry.value)?;
            }
            let mut bases = Vec::new();
            map.retain(|entry| {
                let is_merge = entry.key == "<<";
                if is_merge {
                    bases.push(entry.clone());
                }
                !is_merge
            });
            for Entry { at, value, .. } in bases {
                let sections = match value.value {
                    Value::List(list) => list,
                    _ => vec![value],
                };
                for section in sections {
                    let Value::Map(base) = section.value else {
                        return Err((at, "<< needs a section or a list of sections".to_owned()));
                    };
                    for entry in base {
                        if !map.iter().any(|own| own.key == entry.key) {
                            map.push(entry);
                        }
                    }
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
