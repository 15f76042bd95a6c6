//! The configuration as written in YAML: a tree that knows its lines. The only file that knows
//! `serde_yaml`.
//!
//! `serde_yaml` tells lines in its errors only. So every key and value gets a number in the order
//! in which it is visited, and to learn the line of one, the text is walked again up to it, where
//! the walk fails on purpose: the error carries the line. That costs a walk per problem reported
//! and nothing for a good file, and it cannot disagree with the parser, because it is the parser.
//! Where the problems are many, one walk fails at each scalar in turn and goes on.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor,
};
use std::convert::Infallible;
use std::fmt;

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

/// So many walks of their own are made to find lines, which takes 0.1 s in a file of 5,000 lines.
const WALKS_MAX: usize = 32;

/// Not YAML, or YAML that nobody needs in a configuration.
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
        let mut root = typed.tree(text).map_err(|error| syntax_error(&error))?;
        let is_scalar = typed.is_scalar;
        let mut written = Walk::new(Goal::Texts {
            is_scalar: is_scalar.clone(),
        });
        let texts = written.tree(text).map_err(|error| syntax_error(&error))?;
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

    /// The lines of the keys and values with these numbers, counted from 1. Of many, a list or section
    /// has the line on which its first key or value stands.
    pub(super) fn lines(&self, numbers: &[usize]) -> Vec<usize> {
        if numbers.len() <= WALKS_MAX {
            return numbers.iter().map(|at| line_of(self.text, *at)).collect();
        }
        let mut walk = Walk::new(Goal::Lines {
            is_scalar: self.is_scalar.clone(),
        });
        // What it has found up to an error is right.
        let _ = walk.tree(self.text);
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

fn line_of(text: &str, at: usize) -> usize {
    if is_blank(text) {
        return 1;
    }
    match Walk::new(Goal::Stop { at }).tree(text) {
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

/// The complaint about a tag.
const TAG: &str = "tags such as !name are not allowed";

/// What a walk over the text is for.
enum Goal {
    /// The tree, scalars as YAML takes them.
    Types,
    /// The tree again, scalars as written.
    Texts { is_scalar: Vec<bool> },
    /// The lines of all keys and scalars.
    Lines { is_scalar: Vec<bool> },
    /// Failing at one key or value.
    Stop { at: usize },
}

struct Walk {
    goal: Goal,
    next: usize,
    /// Filled by [`Goal::Types`]: of each number, whether it is a scalar value.
    is_scalar: Vec<bool>,
    /// Filled by [`Goal::Lines`]: of each number its line, 0 for lists and sections.
    lines: Vec<usize>,
}

impl Walk {
    fn new(goal: Goal) -> Self {
        Self {
            goal,
            next: 0,
            is_scalar: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn tree(&mut self, text: &str) -> Result<Node, serde_yaml::Error> {
        ValueSeed(self).deserialize(serde_yaml::Deserializer::from_str(text))
    }

    fn number(&mut self) -> usize {
        let at = self.next;
        self.next += 1;
        self.is_scalar.push(false);
        self.lines.push(0);
        at
    }

    fn stops_at(&self, number: usize) -> bool {
        matches!(self.goal, Goal::Stop { at } if at == number)
    }

    fn wants_text(&self, number: usize) -> bool {
        match &self.goal {
            Goal::Texts { is_scalar } => is_scalar.get(number).copied().unwrap_or(false),
            Goal::Types | Goal::Lines { .. } | Goal::Stop { .. } => false,
        }
    }

    fn wants_line(&self, number: usize, is_key: bool) -> bool {
        match &self.goal {
            Goal::Lines { is_scalar } => is_key || is_scalar.get(number).copied().unwrap_or(false),
            Goal::Types | Goal::Texts { .. } | Goal::Stop { .. } => false,
        }
    }

    /// Takes the line of the scalar that comes next out of the error about it. A scalar is one event
    /// of the parser, so that the walk can go on behind it.
    fn take_line<'de, D: Deserializer<'de>>(&mut self, number: usize, deserializer: D) {
        let Err(error) = deserializer.deserialize_any(StopVisitor);
        let text = error.to_string();
        let line = text.rsplit_once(" at line ").and_then(|(_, place)| {
            let digits = place.split(' ').next()?;
            digits.parse().ok()
        });
        if let (Some(slot), Some(line)) = (self.lines.get_mut(number), line) {
            *slot = line;
        }
    }
}

struct ValueSeed<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let at = self.0.number();
        if self.0.stops_at(at) {
            let Err(error) = deserializer.deserialize_any(StopVisitor);
            return Err(error);
        }
        if self.0.wants_line(at, false) {
            self.0.take_line(at, deserializer);
            return Ok(Node {
                at,
                value: Value::Null,
                text: String::new(),
            });
        }
        if self.0.wants_text(at) {
            return deserializer.deserialize_str(ValueVisitor { walk: self.0, at });
        }
        deserializer.deserialize_any(ValueVisitor { walk: self.0, at })
    }
}

struct ValueVisitor<'w> {
    walk: &'w mut Walk,
    at: usize,
}

impl ValueVisitor<'_> {
    fn scalar<E>(self, value: Value, text: &str) -> Result<Node, E> {
        if let Some(is_scalar) = self.walk.is_scalar.get_mut(self.at) {
            *is_scalar = true;
        }
        Ok(Node {
            at: self.at,
            value,
            text: text.to_owned(),
        })
    }

    fn collection<E>(self, value: Value) -> Result<Node, E> {
        Ok(Node {
            at: self.at,
            value,
            text: String::new(),
        })
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a list or a section")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        self.scalar(Value::Null, "")
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        self.collection(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        self.scalar(Value::Bool(value), "")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        self.scalar(Value::Int(value.into()), "")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        self.scalar(Value::Int(value.into()), "")
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        self.scalar(Value::Int(value), "")
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        // Far outside every range that a key allows, which is all that matters.
        self.scalar(Value::Int(i128::try_from(value).unwrap_or(i128::MAX)), "")
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        self.scalar(Value::Float(value), "")
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        self.scalar(Value::Text, text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(ValueSeed(self.walk))? {
            list.push(item);
        }
        self.collection(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some((at, key)) = entries.next_key_seed(KeySeed(self.walk))? {
            let value = entries.next_value_seed(ValueSeed(self.walk))?;
            map.push(Entry { key, at, value });
        }
        self.collection(Value::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom(TAG))
    }
}

struct KeySeed<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = (usize, String);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let at = self.0.number();
        if self.0.stops_at(at) {
            let Err(error) = deserializer.deserialize_any(StopVisitor);
            return Err(error);
        }
        if self.0.wants_line(at, true) {
            self.0.take_line(at, deserializer);
            return Ok((at, String::new()));
        }
        Ok((at, deserializer.deserialize_str(KeyVisitor)?))
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name as key")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Takes nothing: whatever it is offered is an error, which then carries the line.
struct StopVisitor;

impl Visitor<'_> for StopVisitor {
    type Value = Infallible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
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
                        return Err((at, "<< wants a section or a list of sections".to_owned()));
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
