//! Parses text to a tree of scalars, lists and mappings, each with its place in the text.
//!
//! The parser inside serde-saphyr produces the events. The tree is built here, for three reasons: Slurm's rules for a
//! scalar need its text as written (`010`, `yes`, `0x1f`); all unknown keys are reported, not only the first one; and
//! aliases are refused before anything is expanded, so there are no YAML bombs. (Slurm's reader also refuses aliases.)
//!
//! This parser refuses several documents, aliases, directives, foreign tags, keys that are not scalars, duplicate keys, and
//! whatever exceeds [`super::limits`].

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{self, Event, ScalarStyle, Tag};

use crate::config::limits::{MAX_DEPTH, MAX_NODES};
use crate::config::problem::{Place, Report, Scalar, quote};

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Its place: the whole scalar, or the start of the list or mapping.
    pub(crate) at: Place,
    pub(crate) content: Content,
}

/// The content of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Tree>),
    /// Each key with its value.
    Map(Vec<(Scalar, Tree)>),
}

impl Tree {
    /// The kind of node, for messages: `a list`.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.content {
            Content::Scalar(scalar) if scalar.text.is_empty() => "empty",
            Content::Scalar(_) => "plain text",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }
}

/// The tree of the only document in the file. `None` if the file is empty or a problem was reported.
pub(crate) fn parse(report: &mut Report) -> Option<Tree> {
    let text = report.text(0);
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        disallow_directives: true,
        block_scalar_eof_without_line_feed: true,
    };
    let mut builder = Builder { report, text: &text, stack: Vec::new(), root: None, nodes: 0, documents: 0 };
    for item in granit_parser::Parser::new_from_str_with_options(&text, options) {
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

/// A problem was reported, and parsing stops.
struct Stop;

struct Builder<'r, 't> {
    report: &'r mut Report,
    text: &'t str,
    /// The open lists and mappings, starting with the outermost one.
    stack: Vec<Open>,
    root: Option<Tree>,
    nodes: usize,
    documents: usize,
}

/// A list or mapping that is being parsed.
struct Open {
    at: Place,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Tree>),
    Map { entries: Vec<(Scalar, Tree)>, seen: BTreeMap<String, Place>, key: Option<Scalar> },
}

impl Builder<'_, '_> {
    fn event(&mut self, event: Event<'_>, at: Place) -> Result<(), Stop> {
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
                let what = format!("{} is an alias, which is not supported", self.source(at));
                self.refuse(at, what, "write the value out, or quote it if it is meant as text")
            }
            Event::Scalar(text, style, _, tag) => {
                self.check_tag(at, tag.as_deref(), &["str", "int", "bool"])?;
                self.count(at)?;
                // The parser returns "~" for a missing value, Slurm's reader "".
                let is_absent = style == ScalarStyle::Plain && at.start == at.end;
                let text = if is_absent { String::new() } else { text.into_owned() };
                let literal = self.literal(at, &text, style);
                let scalar = Scalar { text, at, literal };
                self.value(Tree { at, content: Content::Scalar(scalar) })
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
                Some(Open { at, kind: OpenKind::List(items) }) => {
                    self.value(Tree { at, content: Content::List(items) })
                }
                Some(Open { at, kind: OpenKind::Map { entries, .. } }) => {
                    self.value(Tree { at, content: Content::Map(entries) })
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: Place, kind: OpenKind) -> Result<(), Stop> {
        self.count(at)?;
        if self.stack.len() >= MAX_DEPTH {
            let what = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
            return self.refuse(at, what, "namespace.yaml needs five levels");
        }
        self.stack.push(Open { at, kind });
        Ok(())
    }

    /// Adds a finished node to the innermost open list or mapping.
    fn value(&mut self, value: Tree) -> Result<(), Stop> {
        match self.stack.last_mut() {
            None => {
                self.root = Some(value);
                Ok(())
            }
            Some(Open { kind: OpenKind::List(items), .. }) => {
                items.push(value);
                Ok(())
            }
            Some(Open { kind: OpenKind::Map { entries, seen, key }, .. }) => match (key.take(), value.content) {
                (Some(key), content) => {
                    entries.push((key, Tree { at: value.at, content }));
                    Ok(())
                }
                (None, Content::Scalar(name)) => {
                    if let Some(first) = seen.insert(name.text.clone(), name.at) {
                        let line = self.report.line_of(first);
                        let what = format!("the key {} is already set on line {line}", quote(&name.text));
                        self.report.error(name.at, what, "keep one of the two");
                    }
                    *key = Some(name);
                    Ok(())
                }
                (None, _) => self.refuse(value.at, "a list or mapping cannot be a key", "write a name here"),
            },
        }
    }

    fn count(&mut self, at: Place) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let what = format!("the file has more than {MAX_NODES} values");
            return self.refuse(at, what, "use hostlists such as n[1-100] instead of single names");
        }
        Ok(())
    }

    /// Accepts a tag of a YAML core type only if the node has that type.
    fn check_tag(&mut self, at: Place, tag: Option<&Tag>, allowed: &[&str]) -> Result<(), Stop> {
        match tag {
            Some(tag) if !allowed.iter().any(|suffix| tag.core_suffix() == Some(*suffix)) => {
                let what = format!("the tag {} has no meaning here", quote(&tag.original()));
                self.refuse(at, what, "remove it")
            }
            _ => Ok(()),
        }
    }

    /// The offset of a scalar's text, if the file contains it literally.
    fn literal(&self, at: Place, text: &str, style: ScalarStyle) -> Option<usize> {
        let start = match style {
            ScalarStyle::Plain => at.start,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => at.start + 1,
            _ => return None,
        };
        self.text.get(start..)?.starts_with(text).then_some(start)
    }

    fn source(&self, at: Place) -> String {
        quote(self.text.get(at.start..at.end).unwrap_or(""))
    }

    fn refuse(&mut self, at: Place, what: impl Into<String>, hint: impl Into<String>) -> Result<(), Stop> {
        self.report.error(at, what, hint);
        Err(Stop)
    }

    fn syntax(&mut self, error: &granit_parser::ScanError) -> Result<(), Stop> {
        let text = self.text;
        let start = error.marker().byte_offset().unwrap_or(0).min(text.len());
        let line_start = text.get(..start).and_then(|head| head.rfind('\n')).map_or(0, |newline| newline + 1);
        let line = text.get(line_start..).unwrap_or("").lines().next().unwrap_or("");
        let indent = line.get(..line.len() - line.trim_start().len()).unwrap_or("");
        let hint = if indent.contains('\t') {
            "indent with spaces: YAML does not allow tabs"
        } else if text.get(start..).is_some_and(|rest| rest.starts_with(['%', '@', '`'])) {
            "put the value in double quotes"
        } else {
            "check the indentation, quotes and brackets here and on the line above"
        };
        self.refuse(Place::new(start, start), format!("this is not valid YAML: {}", error.info()), hint)
    }
}

fn place(span: granit_parser::Span) -> Place {
    let range = span.byte_range().unwrap_or(0..0);
    Place::new(range.start, range.end)
}
