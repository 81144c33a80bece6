//! A logical line to its `Key=value` words, as the regular expression in Slurm's parse_config.c
//! reads them.

use crate::config::job_container_conf::Reports;
use crate::config::job_container_conf::lines::{Line, is_space};
use crate::config::limits::MAX_SETTINGS;
use crate::config::pasted;
use crate::config::problem::{Span, quote};

/// A place in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    /// Offset in the outermost file of what led here.
    pub(super) top: usize,
    pub(super) span: Span,
}

/// `Key=value`.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) key: String,
    pub(super) key_at: Place,
    pub(super) value: String,
    pub(super) value_at: Place,
    /// Offset of the first byte of the value in the file, when the value stands there literally.
    pub(super) literal: Option<usize>,
}

impl Word {
    /// The place of a part of the value, which must be a slice of it.
    pub(super) fn place_of(&self, part: &str) -> Place {
        let within = (part.as_ptr() as usize).checked_sub(self.value.as_ptr() as usize);
        match (self.literal, within) {
            (Some(start), Some(offset)) if offset + part.len() <= self.value.len() && !part.is_empty() => {
                let start = start + offset;
                Place { span: Span { start, end: start + part.len() }, ..self.value_at }
            }
            _ => self.value_at,
        }
    }
}

/// The words of the line, at most one more than a file may have; `None` when it is not made of words,
/// which has been said.
pub(super) fn split(line: &Line, reports: &mut Reports<'_>) -> Option<Vec<Word>> {
    let text = line.text.as_slice();
    let mut words = Vec::new();
    let mut at = skip(text, 0, is_space);
    while at < text.len() && words.len() <= MAX_SETTINGS {
        let behind_comma = words.last().is_some_and(|word: &Word| word.value.ends_with(','));
        let word = one(line, at, behind_comma, reports)?;
        at = skip(text, word.1, is_space);
        words.push(word.0);
    }
    Some(words)
}

/// The first place from `from` on whose byte is not one of these.
fn skip(text: &[u8], from: usize, is_one: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().position(|b| !is_one(*b)).map_or(text.len(), |length| from + length)
}

/// The word that begins at `start`, and where it ends.
fn one(line: &Line, start: usize, behind_comma: bool, reports: &mut Reports<'_>) -> Option<(Word, usize)> {
    let text = line.text.as_slice();
    let part = |from: usize, to: usize| String::from_utf8_lossy(text.get(from..to).unwrap_or_default()).into_owned();
    let key_end = skip(text, start, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    let sign = skip(text, key_end, is_space);
    let word_end = skip(text, start, |b| !is_space(b));
    if key_end == start || text.get(sign) != Some(&b'=') {
        let key = part(start, key_end);
        let place = line.place(start, word_end);
        let has_operator =
            matches!(text.get(sign), Some(b'-' | b'*' | b'+' | b'/')) && text.get(sign + 1) == Some(&b'=');
        if has_operator && key_end > start {
            let what = format!("{key} is set with an operator, which Slurm takes for \"=\"");
            reports.error(line.place(sign, sign + 2), what, "write =");
        } else if key.eq_ignore_ascii_case("include") {
            let hint = "write Include at the very start of a line, a space, and the file";
            reports.error(place, "this is no Include", hint);
        } else {
            let what = format!("{} is no setting", quote(&part(start, word_end)));
            let hint = match pasted::invisible(&part(start, word_end)) {
                Some(c) => format!("it has the invisible character {} in it: remove that", pasted::named(c)),
                None if behind_comma => "write no space behind the comma before it".to_owned(),
                None => "write Key=value; a value with spaces stands in double quotes".to_owned(),
            };
            reports.error(place, what, hint);
        }
        return None;
    }
    let key = part(start, key_end);
    let key_at = line.place(start, key_end);
    let value_start = skip(text, sign + 1, is_space);
    let plain_end = skip(text, value_start, |b| !is_space(b));
    if value_start == plain_end {
        reports.error(key_at, format!("{key} has no value"), "write one behind the \"=\", or remove the key");
        return None;
    }
    let (from, to, end) = if text.get(value_start) == Some(&b'"') {
        let from = value_start + 1;
        let to = skip(text, from, |b| b != b'"');
        if to == text.len() {
            reports.error(line.place(value_start, plain_end), "the quotes are not closed", "add a \" behind the value");
            return None;
        }
        if text.get(to + 1).is_some_and(|b| !is_space(*b)) {
            let place = line.place(to + 1, skip(text, to + 1, |b| !is_space(b)));
            reports.error(place, "there is text right behind the quotes", "put the whole value in double quotes");
            return None;
        }
        (from, to, to + 1)
    } else {
        (value_start, plain_end, plain_end)
    };
    let value_at = if from == to { line.place(value_start, end) } else { line.place(from, to) };
    let first = line.offsets.get(from).copied();
    let is_literal = to > from && first.zip(line.offsets.get(to - 1)).is_some_and(|(a, b)| b - a == to - 1 - from);
    let literal = first.filter(|_| is_literal);
    Some((Word { key, key_at, value: part(from, to), value_at, literal }, end))
}
