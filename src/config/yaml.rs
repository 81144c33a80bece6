//! Text to a tree of scalars, lists and mappings, each with its place in the text.
//!
//! The events come from the parser inside serde-saphyr; the tree is ours, because Slurm's reading
//! of a scalar needs its text as written (`010`, `yes`, `0x1f`), because all unknown keys are to be
//! reported and not only the first, and because aliases are refused when they are seen, so that
//! there is nothing to expand and no bomb to defuse. (Slurm's reader refuses aliases, too.)
//!
//! Refused here: text that is not UTF-8 or holds control characters, several documents, aliases,
//! directives, foreign tags, keys that are not scalars, duplicate keys, and whatever exceeds
//! [`super::limits`].

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{self, Event, ScalarStyle, Tag};

use crate::config::limits::{MAX_DEPTH, MAX_NODES, MAX_TEXT};
use crate::config::problem::{Report, Span, quote};

/// One node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Where the node is: a whole scalar, or the start of a list or mapping.
    pub at: Span,
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalar(Scalar),
    List(Vec<Value>),
    Map(Vec<(Key, Value)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub at: Span,
    pub name: String,
}

/// A scalar: its text after YAML's unfolding and unescaping, not yet of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    pub text: String,
    /// Offset in the file at which `text` stands literally, to point into it.
    literal: Option<usize>,
    whole: Span,
}

impl Scalar {
    /// The place of `part`, which must be a part of `self.text`; the whole scalar when in doubt.
    #[must_use]
    pub fn place_of(&self, part: &str) -> Span {
        let within = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        match (self.literal, within) {
            (Some(start), Some(offset)) if offset + part.len() <= self.text.len() && !part.is_empty() => {
                Span { start: start + offset, end: start + offset + part.len() }
            }
            _ => self.whole,
        }
    }
}

impl Value {
    /// What the node is, for messages: `a list`.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(scalar) if scalar.text.is_empty() => "empty",
            Kind::Scalar(_) => "plain text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// Bytes to text, or a report that says why not. A byte order mark at the start is left out.
///
/// # Errors
/// The problems, when the bytes are no text that this room reads.
pub fn text_of<'a>(file: &'a str, bytes: &'a [u8]) -> Result<&'a str, Vec<crate::config::problem::Problem>> {
    let refuse = |what: String, hint: &str| {
        let mut report = Report::new(file, "");
        report.error_without_place(what, hint);
        Err(report.finish())
    };
    if bytes.len() > MAX_TEXT {
        let what = format!("the file has {} bytes, more than the limit of {MAX_TEXT}", bytes.len());
        return refuse(what, "use hostlists such as n[1-100] instead of single names");
    }
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return refuse("the file is UTF-16".to_owned(), "save it as UTF-8");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let good = std::str::from_utf8(good).unwrap_or("");
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or(0);
            let mut report = Report::new(file, good);
            let at = Span { start: good.len(), end: good.len() };
            report.error(at, format!("byte 0x{byte:02x} is not UTF-8"), "save the file as UTF-8");
            Err(report.finish())
        }
    }
}

/// The tree of the only document in the text; `None` when it is empty or a problem was reported.
#[must_use]
pub fn parse(report: &mut Report<'_>) -> Option<Value> {
    let text = report.text();
    if let Some((start, c)) = text.char_indices().find(|&(_, c)| is_forbidden(c)) {
        let at = Span { start, end: start + c.len_utf8() };
        let what = match c {
            '\0' => "a NUL byte; Slurm's reader takes it for the end of the file".to_owned(),
            _ => format!("the character U+{:04X} cannot be in this file", u32::from(c)),
        };
        report.error(at, what, "remove it");
        return None;
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        disallow_directives: true,
        block_scalar_eof_without_line_feed: true,
    };
    let mut builder = Builder { report, stack: Vec::new(), root: None, nodes: 0, documents: 0 };
    for item in granit_parser::Parser::new_from_str_with_options(text, options) {
        let step = match item {
            Ok((event, span)) => builder.event(event, place(span)),
            Err(error) => builder.syntax(&error),
        };
        if step.is_err() {
            return None;
        }
    }
    builder.root
}

/// A problem was reported and reading stops.
struct Stop;

struct Builder<'r, 't> {
    report: &'r mut Report<'t>,
    /// The open lists and mappings, the outermost first.
    stack: Vec<Open>,
    root: Option<Value>,
    nodes: usize,
    documents: usize,
}

/// A list or mapping that is being read.
struct Open {
    at: Span,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Value>),
    Map { entries: Vec<(Key, Value)>, seen: BTreeMap<String, Span>, key: Option<Key> },
}

impl Builder<'_, '_> {
    fn event(&mut self, event: Event<'_>, at: Span) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.refuse(
                        at,
                        "a second document starts here",
                        "keep one document in the file and remove this line",
                    );
                }
                Ok(())
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let what = format!("{} is an alias, which this file cannot use", self.source(at));
                self.refuse(at, what, "write the value out, or quote it if it is meant as text")
            }
            Event::Scalar(text, style, _, tag) => {
                self.check_tag(at, tag.as_deref(), &["str", "int", "bool"])?;
                self.count(at)?;
                // The parser stands in "~" for a value that is not there; Slurm's reader, "".
                let is_absent = style == ScalarStyle::Plain && at.start == at.end;
                let text = if is_absent { String::new() } else { text.into_owned() };
                let literal = self.literal(at, &text, style);
                let scalar = Scalar { text, literal, whole: at };
                self.value(Value { at, kind: Kind::Scalar(scalar) })
            }
            Event::SequenceStart(_, _, tag) => {
                self.check_tag(at, tag.as_deref(), &["seq"])?;
                self.open(at, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(_, _, tag) => {
                self.check_tag(at, tag.as_deref(), &["map"])?;
                let (entries, seen) = (Vec::new(), BTreeMap::new());
                self.open(at, OpenKind::Map { entries, seen, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open { at, kind: OpenKind::List(items) }) => self.value(Value { at, kind: Kind::List(items) }),
                Some(Open { at, kind: OpenKind::Map { entries, .. } }) => {
                    self.value(Value { at, kind: Kind::Map(entries) })
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: Span, kind: OpenKind) -> Result<(), Stop> {
        self.count(at)?;
        if self.stack.len() >= MAX_DEPTH {
            let what = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
            return self.refuse(at, what, "namespace.yaml needs five levels");
        }
        self.stack.push(Open { at, kind });
        Ok(())
    }

    /// A finished node goes where the innermost open list or mapping wants it.
    fn value(&mut self, value: Value) -> Result<(), Stop> {
        match self.stack.last_mut() {
            None => {
                self.root = Some(value);
                Ok(())
            }
            Some(Open { kind: OpenKind::List(items), .. }) => {
                items.push(value);
                Ok(())
            }
            Some(Open { kind: OpenKind::Map { entries, seen, key }, .. }) => match (key.take(), value.kind) {
                (Some(key), kind) => {
                    entries.push((key, Value { at: value.at, kind }));
                    Ok(())
                }
                (None, Kind::Scalar(Scalar { text, .. })) => {
                    let at = value.at;
                    let first = seen.insert(text.clone(), at);
                    *key = Some(Key { at, name: text.clone() });
                    if let Some(first) = first {
                        let line = self.report.line_of(first.start);
                        self.report.error(
                            at,
                            format!("the key {} is already set in line {line}", quote(&text)),
                            "keep one of the two",
                        );
                    }
                    Ok(())
                }
                (None, _) => self.refuse(value.at, "a list or mapping cannot be a key", "write a name here"),
            },
        }
    }

    fn count(&mut self, at: Span) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let what = format!("the file has more than {MAX_NODES} values");
            return self.refuse(at, what, "use hostlists such as n[1-100] instead of single names");
        }
        Ok(())
    }

    /// Tags of YAML's own types are taken where they say what the node is anyway.
    fn check_tag(&mut self, at: Span, tag: Option<&Tag>, allowed: &[&str]) -> Result<(), Stop> {
        match tag {
            Some(tag) if !allowed.iter().any(|suffix| tag.core_suffix() == Some(*suffix)) => {
                let what = format!("the tag {} has no meaning here", quote(&tag.original()));
                self.refuse(at, what, "remove it")
            }
            _ => Ok(()),
        }
    }

    /// Where the text of a scalar stands in the file as it is, if it does.
    fn literal(&self, at: Span, text: &str, style: ScalarStyle) -> Option<usize> {
        let start = match style {
            ScalarStyle::Plain => at.start,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => at.start + 1,
            _ => return None,
        };
        self.report.text().get(start..)?.starts_with(text).then_some(start)
    }

    fn source(&self, at: Span) -> String {
        quote(self.report.text().get(at.start..at.end).unwrap_or(""))
    }

    fn refuse(&mut self, at: Span, what: impl Into<String>, hint: impl Into<String>) -> Result<(), Stop> {
        self.report.error(at, what, hint);
        Err(Stop)
    }

    fn syntax(&mut self, error: &granit_parser::ScanError) -> Result<(), Stop> {
        let text = self.report.text();
        let start = error.marker().byte_offset().unwrap_or(0).min(text.len());
        let line_start = text.get(..start).and_then(|head| head.rfind('\n')).map_or(0, |newline| newline + 1);
        let line = text.get(line_start..).unwrap_or("").lines().next().unwrap_or("");
        let indent = line.get(..line.len() - line.trim_start().len()).unwrap_or("");
        let hint = if indent.contains('\t') {
            "indent with spaces, YAML does not take tabs"
        } else if text.get(start..).is_some_and(|rest| rest.starts_with(['%', '@', '`'])) {
            "put the value in double quotes"
        } else {
            "check the indentation, quotes and brackets here and in the line above"
        };
        self.refuse(Span { start, end: start }, format!("this is not YAML: {}", error.info()), hint)
    }
}

fn place(span: granit_parser::Span) -> Span {
    let range = span.byte_range().unwrap_or(0..0);
    Span { start: range.start, end: range.end }
}

/// Control characters but tab and line breaks, and line breaks that not every YAML reader knows.
pub(super) fn is_forbidden(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        _ => c.is_control(),
    }
}
