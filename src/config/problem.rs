//! Errors and warnings about a configuration file, for a reader at 3 a.m.
//!
//! A [`Problem`] is one sentence with a place. [`Report`] collects problems while a file is read, and turns byte offsets
//! into lines and columns. It accepts only UTF-8 without control characters. Text from the file never reaches a terminal
//! or a log unescaped.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::config::limits::{MAX_PROBLEMS, MAX_QUOTE, MAX_TEXT};
use crate::config::short_list;

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The file is refused.
    Error,
    /// The file is accepted, but may not mean what its author intended.
    Warning,
}

/// One mistake, its place, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub level: Level,
    /// The name of the file, as given by the caller.
    pub file: String,
    /// Starts at 1; 0 if the problem has no place in the text.
    pub line: usize,
    /// In characters, starts at 1; 0 if the problem has no place in the text.
    pub column: usize,
    /// The number of marked characters, at least 1.
    pub length: usize,
    /// A clause that describes the mistake, without a full stop.
    pub what: String,
    /// What to do about it, as a clause.
    pub hint: Option<String>,
    /// The line without its line break. If it is very long, the part around the place.
    pub line_text: String,
    /// The column of the first character of `line_text`: 1 except for very long lines.
    pub text_column: usize,
}

impl Problem {
    /// `namespace.yaml:14:5: unknown key "base_pth" in defaults; did you mean "base_path"?`
    #[must_use]
    pub fn one_line(&self) -> String {
        self.line_with(match self.level {
            Level::Error => "",
            Level::Warning => "warning: ",
        })
    }

    /// [`Problem::one_line`] without the level, for a log whose lines have a level.
    pub(crate) fn log_line(&self) -> String {
        self.line_with("")
    }

    fn line_with(&self, level: &str) -> String {
        let mut out = escape(&self.file);
        if self.line > 0 {
            let _ = write!(out, ":{}:{}", self.line, self.column);
        }
        out.push_str(": ");
        out.push_str(level);
        out.push_str(&escape(&self.what));
        if let Some(hint) = &self.hint {
            out.push_str("; ");
            out.push_str(&escape(hint));
        }
        out
    }

    /// [`Problem::one_line`], the line of the file, and a mark under the text, as from a compiler.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = self.one_line();
        out.push('\n');
        if self.line == 0 {
            return out;
        }
        let (mut shown, mut blank, mut mark) = (String::new(), String::new(), String::new());
        if self.text_column > 1 {
            shown.push_str("...");
            blank.push_str("   ");
        }
        for (index, c) in self.line_text.chars().enumerate() {
            // A tab counts as one column, so it is printed as one space.
            let piece = if c == '\t' { " ".to_owned() } else { escape(c.encode_utf8(&mut [0; 4])) };
            let width = piece.chars().count();
            shown.push_str(&piece);
            let column = self.text_column + index;
            if column < self.column {
                blank.extend(std::iter::repeat_n(' ', width));
            } else if column < self.column.saturating_add(self.length.max(1)) {
                mark.extend(std::iter::repeat_n('~', width));
            }
        }
        // The first character of the mark is the place itself. At the end of a line there is no other.
        let mark = if mark.is_empty() { "^".to_owned() } else { format!("^{}", mark.get(1..).unwrap_or("")) };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len().max(4));
        let _ = writeln!(out, "{number:>width$} | {shown}", width = gutter.len());
        let _ = writeln!(out, "{gutter} | {blank}{mark}");
        out
    }
}

/// The reason why a value is refused. Neither sentence quotes the value: the caller does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The end of a sentence that starts with the value: `is not an absolute path`.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}

impl Refusal {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

/// The refusal of a value.
pub(super) fn refuse<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(what, hint))
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.hint)
    }
}

/// A range of bytes in the text of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The index of the file in the report.
    pub(crate) file: usize,
    /// The offset in the first file of the line that contains this place, or of the `Include` that led to it.
    pub(crate) top: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    /// A place in the first file.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { file: 0, top: start, start, end }
    }
}

/// One value as text, not converted to a type yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    pub(crate) text: String,
    /// The whole scalar, with quotation marks.
    pub(crate) at: Place,
    /// The offset of `text` in the file, if the file contains it literally.
    pub(super) literal: Option<usize>,
}

impl Scalar {
    /// A scalar at the start of a file.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), at: Place::new(0, text.len()), literal: Some(0) }
    }

    /// The place of `part`, which must be a slice of `self.text`. The whole scalar if the place is not known.
    pub(crate) fn place_of(&self, part: &str) -> Place {
        let within = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        match (self.literal, within) {
            (Some(start), Some(offset)) if offset + part.len() <= self.text.len() && !part.is_empty() => {
                Place { start: start + offset, end: start + offset + part.len(), ..self.at }
            }
            _ => self.at,
        }
    }
}

/// Collects the problems of a file and of the files that it includes.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<File>,
    /// Each problem with the index of its file.
    problems: Vec<(usize, Problem)>,
    errors: usize,
    dropped: usize,
}

#[derive(Debug)]
struct File {
    name: String,
    text: Rc<str>,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
}

impl Report {
    /// Adds a file and returns its index. Reports a file that is not text, and returns `None`. Removes a byte order mark
    /// at the start.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Option<usize> {
        let index = self.files.len();
        self.files.push(File { name: name.to_owned(), text: "".into(), lines: vec![0] });
        if bytes.len() > MAX_TEXT {
            let what = format!("the file has {} bytes, more than the limit of {MAX_TEXT}", bytes.len());
            self.error_in_file(index, what, "use hostlists such as n[1-100] instead of single names");
            return None;
        }
        if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
            self.error_in_file(index, "the file is UTF-16", "save it as UTF-8");
            return None;
        }
        let (text, bad_byte) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let (good, bad) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
                (std::str::from_utf8(good).unwrap_or_default(), bad.first())
            }
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(file) = self.files.last_mut() {
            *file = File { name: name.to_owned(), text: text.into(), lines: line_starts(text) };
        }
        let in_file = |start, end| Place { file: index, top: 0, start, end };
        if let Some(byte) = bad_byte {
            let at = in_file(text.len(), text.len());
            self.error(at, format!("byte 0x{byte:02x} is not UTF-8"), "save the file as UTF-8");
            return None;
        }
        if let Some((start, c)) = text.char_indices().find(|&(_, c)| is_forbidden(c)) {
            let what = match c {
                '\0' => "there is a NUL byte here, and Slurm ignores everything after it".to_owned(),
                _ => format!("the character U+{:04X} is not allowed in this file", u32::from(c)),
            };
            self.error(in_file(start, start + c.len_utf8()), what, "remove it");
            return None;
        }
        Some(index)
    }

    /// The number of files.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// The text of a file, to which its places refer.
    pub(crate) fn text(&self, file: usize) -> Rc<str> {
        self.files.get(file).map_or_else(|| "".into(), |file| Rc::clone(&file.text))
    }

    /// The line of a place in its own file, starting at 1.
    pub(crate) fn line_of(&self, at: Place) -> usize {
        self.files.get(at.file).map_or(0, |file| file.line_of(at.start))
    }

    /// The line of a place in the first file, starting at 1.
    pub(crate) fn top_line_of(&self, at: Place) -> usize {
        self.files.first().map_or(0, |file| file.line_of(at.top))
    }

    /// The number of errors so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Adds an error: the file is refused.
    pub(crate) fn error(&mut self, at: Place, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Level::Error, at.file, Some(at), what.into(), hint.into());
    }

    /// Adds a warning: the file is accepted.
    pub(crate) fn warning(&mut self, at: Place, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Level::Warning, at.file, Some(at), what.into(), hint.into());
    }

    /// Adds a problem with a value: a sentence that starts with its name and the value.
    pub(super) fn of_value(&mut self, level: Level, at: Place, name: &str, text: &str, refusal: Refusal) {
        self.add(level, at.file, Some(at), format!("{name} {} {}", quote(text), refusal.what), refusal.hint);
    }

    /// Adds an error about a file as a whole.
    pub(crate) fn error_in_file(&mut self, file: usize, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Level::Error, file, None, what.into(), hint.into());
    }

    fn add(&mut self, level: Level, file: usize, at: Option<Place>, what: String, hint: String) {
        self.errors += usize::from(level == Level::Error);
        if self.problems.len() >= MAX_PROBLEMS {
            self.dropped += 1;
        } else if let Some(found) = self.files.get(file) {
            self.problems.push((file, found.problem(level, at, what, hint)));
        }
    }

    /// The problems in the order of the text, errors and warnings mixed.
    #[must_use]
    pub fn finish(mut self) -> Vec<Problem> {
        short_list::sort_by_key(&mut self.problems, |(file, problem)| (*file, problem.line, problem.column));
        let more = (self.dropped > 0).then(|| {
            let level = if self.errors > 0 { Level::Error } else { Level::Warning };
            let what = format!("{} more problems are not shown", self.dropped);
            self.files.first().map(|file| file.problem(level, None, what, "fix the ones above first".to_owned()))
        });
        self.problems.into_iter().map(|(_, problem)| problem).chain(more.flatten()).collect()
    }
}

impl File {
    fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|&start| start <= offset).max(1)
    }

    fn problem(&self, level: Level, at: Option<Place>, what: String, hint: String) -> Problem {
        let mut problem = Problem {
            level,
            file: self.name.clone(),
            line: 0,
            column: 0,
            length: 0,
            what,
            hint: (!hint.is_empty()).then_some(hint),
            line_text: String::new(),
            text_column: 0,
        };
        if let Some(at) = at {
            self.place(&mut problem, at);
        }
        problem
    }

    fn place(&self, problem: &mut Problem, at: Place) {
        /// Characters of a long line that are kept, and how many of them are before the place.
        const WIDTH: usize = 120;
        const BEFORE: usize = 60;

        let line = self.line_of(at.start);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let whole = self.text.get(start..end).unwrap_or("");
        let line_text = whole.trim_end_matches(['\n', '\r']);
        let chars = |from: usize, to: usize| {
            let to = to.min(start + line_text.len());
            self.text.get(from..to).map_or(0, |part| part.chars().count())
        };
        problem.line = line;
        problem.column = chars(start, at.start) + 1;
        problem.length = chars(at.start, at.end).max(1);
        let skip = if problem.column > WIDTH - 20 { problem.column - BEFORE } else { 0 };
        problem.text_column = skip + 1;
        problem.line_text = line_text.chars().skip(skip).take(WIDTH).collect();
    }
}

/// The byte offset of the start of each line. A line ends in `\n`, `\r\n` or `\r`.
fn line_starts(text: &str) -> Vec<usize> {
    let mut bytes = text.bytes().enumerate().peekable();
    let mut starts = vec![0];
    while let Some((index, byte)) = bytes.next() {
        if byte == b'\n' || byte == b'\r' && !matches!(bytes.peek(), Some((_, b'\n'))) {
            starts.push(index + 1);
        }
    }
    starts
}

/// Whether this is a control character other than a tab or line break, or a line break that only some YAML readers know.
fn is_forbidden(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        _ => c.is_control(),
    }
}

/// Whether a character is invisible, looks like a space, or reorders text.
pub(super) const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{a0}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{1680}'
            | '\u{180e}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{3000}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Makes text safe to print: control characters, and characters that reorder or hide text, become `\x1b` or `\u{202e}`.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            _ if is_unseen(c) || matches!(c, '\u{fff9}'..='\u{fffb}') => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

/// The text in double quotes, shortened if it is long.
pub(crate) fn quote(text: &str) -> String {
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(MAX_QUOTE).collect();
    if chars.next().is_some() {
        out.push_str("...");
    }
    format!("\"{out}\"")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests stop where they fail")]
mod tests {
    use super::*;

    fn report_of(name: &str, text: &str) -> Report {
        let file = File { name: name.to_owned(), text: text.into(), lines: line_starts(text) };
        Report { files: vec![file], ..Report::default() }
    }

    fn only(text: &str, start: usize, end: usize) -> Problem {
        let mut report = report_of("f.yaml", text);
        report.error(Place::new(start, end), "wrong", "write it right");
        report.finish().remove(0)
    }

    #[test]
    fn places_are_lines_and_characters() {
        let text = "a: 1\r\nbä: 2\rc: 3\n";
        assert_eq!(only(text, 6, 9).one_line(), "f.yaml:2:1: wrong; write it right");
        assert_eq!(only(text, 11, 12).one_line(), "f.yaml:2:5: wrong; write it right");
        assert_eq!(only(text, 13, 14).one_line(), "f.yaml:3:1: wrong; write it right");
        // After the end, and a range that is not valid.
        assert_eq!(only(text, text.len(), text.len()).line, 4);
        assert_eq!(only(text, 9999, 3).line, 4);
    }

    #[test]
    fn the_mark_is_under_the_text() {
        let text = "\tkey: b\u{1b}[31mad\n";
        assert_eq!(
            only(text, 6, 14).render(),
            "\
f.yaml:1:7: wrong; write it right
   1 |  key: b\\x1b[31mad
     |       ^~~~~~~~~~~
"
        );
        assert_eq!(
            only("ab", 2, 2).render(),
            "\
f.yaml:1:3: wrong; write it right
   1 | ab
     |   ^
"
        );
    }

    #[test]
    fn long_lines_are_shown_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(1 << 20), "b".repeat(1 << 20));
        let problem = only(&text, 1 << 20, (1 << 20) + 4);
        assert!(problem.line_text.len() <= 120);
        let render = problem.render();
        assert!(render.contains("...aaa") && render.contains("HEREbbb") && render.contains(" ^~~~\n"), "{render}");
    }

    #[test]
    fn nothing_reaches_a_terminal_unescaped() {
        let mut report = report_of("f\x1b]0;x\x07.yaml", "x");
        report.warning(Place::new(0, 1), "what\n\u{202e}", "hint\r");
        let problem = report.finish().remove(0);
        assert_eq!(problem.one_line(), "f\\x1b]0;x\\x07.yaml:1:1: warning: what\\x0a\\u{202e}; hint\\x0d");
        assert_eq!(problem.log_line(), "f\\x1b]0;x\\x07.yaml:1:1: what\\x0a\\u{202e}; hint\\x0d");
        assert!(problem.render().chars().all(|c| c == '\n' || !c.is_control()));
    }

    #[test]
    fn the_number_of_problems_is_bounded() {
        let mut report = report_of("f", "x");
        for _ in 0..1000 {
            report.error(Place::default(), "wrong", "");
        }
        let problems = report.finish();
        assert_eq!(problems.len(), MAX_PROBLEMS + 1);
        assert_eq!(
            problems.last().map(Problem::one_line).as_deref(),
            Some("f: 950 more problems are not shown; fix the ones above first")
        );
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(quote("a"), "\"a\"");
        assert_eq!(quote(&"ä".repeat(1000)).chars().count(), MAX_QUOTE + 5);
    }
}
