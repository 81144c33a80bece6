//! Errors and warnings about a configuration file, written for somebody at 3 a.m.
//!
//! A [`Problem`] is one sentence with a place. [`Report`] collects them while a file is read and
//! turns byte offsets into lines and columns. It takes in UTF-8 without control characters only. Text from the file never reaches a terminal or a log
//! unescaped.

use std::fmt::Write as _;
use std::rc::Rc;

use crate::config::limits::{MAX_PROBLEMS, MAX_QUOTE, MAX_TEXT};
use crate::config::short;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The file is refused.
    Error,
    /// The file is taken; its author may have meant something else.
    Warning,
}

/// One thing that is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub level: Level,
    /// The file, as the caller named it.
    pub file: String,
    /// From 1; 0 when the problem has no place in the text.
    pub line: usize,
    /// In characters, from 1; 0 when the problem has no place in the text.
    pub column: usize,
    /// Characters that are marked, at least 1.
    pub length: usize,
    /// What is wrong: a clause without a final full stop.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line itself, without its line break; of a very long line, the part around the place.
    pub line_text: String,
    /// The column of the first character of `line_text`: 1 but for very long lines.
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

    /// [`Problem::one_line`] without its level, for a log that has a level for each line.
    #[must_use]
    pub fn log_line(&self) -> String {
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

    /// [`Problem::one_line`], the line of the file and a mark under the text, as compilers do.
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
            // A tab is one column for us, so it is shown as one space.
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
        // The first character of the mark is the place itself; at the end of a line it stands alone.
        let mark = if mark.is_empty() { "^".to_owned() } else { format!("^{}", mark.get(1..).unwrap_or("")) };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len().max(4));
        let _ = writeln!(out, "{number:>width$} | {shown}", width = gutter.len());
        let _ = writeln!(out, "{gutter} | {blank}{mark}");
        out
    }
}

/// Why a value is refused. Neither sentence quotes the value: the caller does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, as what follows the value: `is not an absolute path`.
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

/// A part of the text of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which of the files of the report.
    pub file: usize,
    /// Where the line is in the first file that this place is in, or that includes it.
    pub top: usize,
    pub start: usize,
    pub end: usize,
}

impl Place {
    /// A place in the first file.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { file: 0, top: start, start, end }
    }
}

/// One value as text, not yet of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    pub text: String,
    /// All of it, with quotation marks.
    pub at: Place,
    /// Offset in the file at which `text` stands literally, to point into it.
    pub(super) literal: Option<usize>,
}

impl Scalar {
    /// Text that begins a file.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), at: Place::new(0, text.len()), literal: Some(0) }
    }

    /// The place of `part`, which must be a part of `self.text`; the whole scalar when in doubt.
    #[must_use]
    pub fn place_of(&self, part: &str) -> Place {
        let within = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        match (self.literal, within) {
            (Some(start), Some(offset)) if offset + part.len() <= self.text.len() && !part.is_empty() => {
                Place { start: start + offset, end: start + offset + part.len(), ..self.at }
            }
            _ => self.at,
        }
    }
}

/// Collects the problems of a file and of those that it includes.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<File>,
    /// Each with the index of its file.
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
    /// Takes in one more file: its index, or `None` when it is not text, which is said. A byte order mark at the start
    /// is left out.
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
                '\0' => "there is a NUL byte here, and Slurm's reader does not read what follows it".to_owned(),
                _ => format!("the character U+{:04X} cannot be in this file", u32::from(c)),
            };
            self.error(in_file(start, start + c.len_utf8()), what, "remove it");
            return None;
        }
        Some(index)
    }

    /// How many files there are.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// The text that places in this file refer to.
    #[must_use]
    pub fn text(&self, file: usize) -> Rc<str> {
        self.files.get(file).map_or_else(|| "".into(), |file| Rc::clone(&file.text))
    }

    /// The line, from 1, of a place in its own file.
    #[must_use]
    pub fn line_of(&self, at: Place) -> usize {
        self.files.get(at.file).map_or(0, |file| file.line_of(at.start))
    }

    /// The line, from 1, in the first file.
    #[must_use]
    pub fn top_line_of(&self, at: Place) -> usize {
        self.files.first().map_or(0, |file| file.line_of(at.top))
    }

    /// How many errors so far.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Something that the file is refused for.
    pub fn error(&mut self, at: Place, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Level::Error, at.file, Some(at), what.into(), hint.into());
    }

    /// Something that is taken, but said.
    pub fn warning(&mut self, at: Place, what: impl Into<String>, hint: impl Into<String>) {
        self.add(Level::Warning, at.file, Some(at), what.into(), hint.into());
    }

    /// Either of the two.
    pub(super) fn say(&mut self, level: Level, at: Place, what: String, hint: String) {
        self.add(level, at.file, Some(at), what, hint);
    }

    /// What is wrong with a value, which the name stands before.
    pub(super) fn of_value(&mut self, level: Level, at: Place, name: &str, text: &str, refusal: Refusal) {
        self.say(level, at, format!("{name} {} {}", quote(text), refusal.what), refusal.hint);
    }

    /// An error about a file as a whole.
    pub fn error_in_file(&mut self, file: usize, what: impl Into<String>, hint: impl Into<String>) {
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
        short::sort_by_key(&mut self.problems, |(file, problem)| (*file, problem.line, problem.column));
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
        /// Characters of a line that are kept, and how many of them before the place.
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

/// Byte offset of the start of each line, which ends in `\n`, `\r\n` or `\r`.
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

/// Control characters but tab and line breaks, and line breaks that not every YAML reader knows.
fn is_forbidden(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        _ => c.is_control(),
    }
}

/// A character that nobody sees, that looks like a space without being one, or that reorders text.
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

/// Text that is safe to print: control characters, and characters that reorder or hide text,
/// become `\x1b` or `\u{202e}`.
#[must_use]
pub fn escape(text: &str) -> String {
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

/// The text in double quotes, shortened when it is long.
#[must_use]
pub fn quote(text: &str) -> String {
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
        // Behind the end, and a span that makes no sense.
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
