//! A logical line to its `Key=value` words, as the regular expression in Slurm's parse_config.c
//! reads them.

use crate::config::job_container_conf::lines::{Line, is_space};
use crate::config::limits::MAX_SETTINGS;
use crate::config::problem::{Place, Report, Scalar, quote};
use crate::config::suspicious;

/// `Key=value`.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) key: String,
    pub(super) key_at: Place,
    pub(super) value: Scalar,
}

/// The words of the line, at most one more than a file may have. `None` if something else was found and reported.
pub(super) fn split(line: &Line, report: &mut Report) -> Option<Vec<Word>> {
    let text = line.text.as_slice();
    let mut words = Vec::new();
    let mut at = skip(text, 0, is_space);
    while at < text.len() && words.len() <= MAX_SETTINGS {
        let after_comma = words.last().is_some_and(|word: &Word| word.value.text.ends_with(','));
        let (word, end) = word(line, at, after_comma, report)?;
        at = skip(text, end, is_space);
        words.push(word);
    }
    Some(words)
}

/// The index of the first byte at or after `from` that `skips` rejects.
fn skip(text: &[u8], from: usize, skips: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.iter().position(|b| !skips(*b)).map_or(text.len(), |length| from + length)
}

/// The word that starts at `start`, and its end.
fn word(line: &Line, start: usize, after_comma: bool, report: &mut Report) -> Option<(Word, usize)> {
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
            let what = format!("{key} is set with an operator, which Slurm reads as \"=\"");
            report.error(line.place(sign, sign + 2), what, "write =");
        } else if key.eq_ignore_ascii_case("include") {
            let hint = "write Include at the very start of the line, then a space and the file name";
            report.error(place, "this is not a valid Include", hint);
        } else {
            let what = format!("{} is not a setting", quote(&part(start, word_end)));
            let otherwise = if after_comma {
                "remove the space after the comma before it"
            } else {
                "write Key=value, and put a value with spaces in double quotes"
            };
            let hint = suspicious::invisible_hint(&part(start, word_end)).unwrap_or_else(|| otherwise.to_owned());
            report.error(place, what, hint);
        }
        return None;
    }
    let key = part(start, key_end);
    let key_at = line.place(start, key_end);
    let value_start = skip(text, sign + 1, is_space);
    let plain_end = skip(text, value_start, |b| !is_space(b));
    if value_start == plain_end {
        report.error(key_at, format!("{key} has no value"), "write one after the \"=\", or remove the key");
        return None;
    }
    let (from, to, end) = if text.get(value_start) == Some(&b'"') {
        let from = value_start + 1;
        let to = skip(text, from, |b| b != b'"');
        if to == text.len() {
            report.error(line.place(value_start, plain_end), "the quotes are not closed", "add a \" after the value");
            return None;
        }
        if text.get(to + 1).is_some_and(|b| !is_space(*b)) {
            let place = line.place(to + 1, skip(text, to + 1, |b| !is_space(b)));
            report.error(place, "there is text right after the closing quote", "put the whole value in double quotes");
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
    Some((Word { key, key_at, value: Scalar { text: part(from, to), at: value_at, literal } }, end))
}
