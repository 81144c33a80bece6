//! Physical lines to logical lines, as Slurm's `_get_next_line` makes them: a comment runs from `#` to the end of the
//! line, even inside quotes; a line that ends in `\` continues on the next line; `\x` means `x`. Each byte keeps its place
//! in the file. This file also reads the files that an `Include` names.

use crate::config::job_container_conf::Include;
use crate::config::limits::{MAX_INCLUDE_DEPTH, MAX_INCLUDES, MAX_SETTINGS, MAX_TEXT};
use crate::config::problem::{Place, Report, quote};

/// A logical line.
#[derive(Debug)]
pub(super) struct Line {
    /// The index of its file.
    pub(super) file: usize,
    /// Offset in the outermost file, of the line or of the `Include` that led to it.
    pub(super) top: usize,
    /// The text without comments, continuations and escapes. It is UTF-8.
    pub(super) text: Vec<u8>,
    /// The offset in the file of each byte of `text`.
    pub(super) offsets: Vec<usize>,
}

impl Line {
    /// The place of a part of `text`.
    pub(super) fn place(&self, start: usize, end: usize) -> Place {
        let first = self.offsets.get(start).or(self.offsets.last()).copied().unwrap_or(0);
        let last = end.checked_sub(1).and_then(|last| self.offsets.get(last)).copied().unwrap_or(first);
        Place { file: self.file, top: self.top, start: first, end: last.max(first) + 1 }
    }
}

/// Collects the lines of a file and of the files that it includes, in the order of reading.
pub(super) struct Loader<'i, 'r> {
    include: Include<'i>,
    report: &'r mut Report,
    lines: Vec<Line>,
    /// The number of files that are being read, and the offset of the outermost `Include`.
    depth: usize,
    top: Option<usize>,
    bytes: usize,
    count: usize,
}

impl<'i, 'r> Loader<'i, 'r> {
    pub(super) fn new(include: Include<'i>, report: &'r mut Report) -> Self {
        Self { include, report, lines: Vec::new(), depth: 0, top: None, bytes: 0, count: 0 }
    }

    pub(super) fn load(mut self, name: &str, bytes: &[u8]) -> Vec<Line> {
        self.file(name, bytes);
        self.lines
    }

    fn file(&mut self, name: &str, bytes: &[u8]) {
        let Some(file) = self.report.add_file(name, bytes) else { return };
        let text = self.report.text(file);
        self.bytes += text.len();
        self.depth += 1;
        self.lines_of(file, &text);
        self.depth -= 1;
    }

    fn lines_of(&mut self, file: usize, text: &str) {
        let mut rest = text.as_bytes();
        let mut offset = 0;
        while !rest.is_empty() {
            let mut line = Line { file, top: self.top.unwrap_or(offset), text: Vec::new(), offsets: Vec::new() };
            loop {
                let length = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |newline| newline + 1);
                let (physical, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                let kept = without_comment(physical);
                let (kept, continues) = without_continuation(kept);
                line.text.extend_from_slice(kept);
                line.offsets.extend(offset..offset + kept.len());
                rest = after;
                offset += length;
                if !continues || rest.is_empty() {
                    break;
                }
            }
            strip_escapes(&mut line);
            if line.text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            self.count += 1;
            if self.count > MAX_SETTINGS {
                if self.count == MAX_SETTINGS + 1 {
                    let what = format!("there are more than {MAX_SETTINGS} lines");
                    let hint = "use hostlists such as n[1-100] instead of single names";
                    self.report.error(line.place(0, line.text.len()), what, hint);
                }
                return;
            }
            match included(&line.text) {
                Some(core::ops::Range { start, end }) => self.included(&line, start, end),
                None => self.lines.push(line),
            }
        }
    }

    /// Reads the file that an `Include` names from `start` to `end` of the line.
    fn included(&mut self, line: &Line, start: usize, end: usize) {
        let name = String::from_utf8_lossy(line.text.get(start..end).unwrap_or_default()).into_owned();
        let at = line.place(start, end);
        let files = self.report.files();
        let mut refuse = |at: Place, what: String, hint: &str| self.report.error(at, what, hint);
        let after = line.text.get(end..).unwrap_or_default();
        if let Some(more) = after.iter().position(|b| !is_space(*b)) {
            let place = line.place(end + more, line.text.len());
            return refuse(place, "there is text after the file name".to_owned(), "include one file per line");
        }
        if name.contains('*') {
            return refuse(
                at,
                format!("the Include of {} contains a pattern", quote(&name)),
                "Slurm does not expand it: name each file",
            );
        }
        if name.contains("%c") {
            let what =
                format!("the Include of {} contains %c, which Slurm does not replace in this file", quote(&name));
            return refuse(at, what, "write the name of the cluster");
        }
        if self.depth >= MAX_INCLUDE_DEPTH || files >= MAX_INCLUDES {
            let what = format!(
                "Include is nested more than {MAX_INCLUDE_DEPTH} deep, or there are more than {MAX_INCLUDES} files"
            );
            return refuse(at, what, "no file may include itself; otherwise write the lines into this file");
        }
        match (self.include)(&name) {
            Ok(text) if self.bytes.saturating_add(text.len()) > MAX_TEXT => {
                let what = format!("with {} the files have more than {MAX_TEXT} bytes", quote(&name));
                refuse(at, what, "use hostlists such as n[1-100] instead of single names");
            }
            Ok(text) => {
                let outermost = self.top.is_none();
                if outermost {
                    self.top = Some(line.top);
                }
                self.file(&name, &text);
                if outermost {
                    self.top = None;
                }
            }
            Err(why) => refuse(at, format!("cannot include {}: {why}", quote(&name)), "Slurm would not start either"),
        }
    }
}

/// The file name of an `Include`: the word is at the very start of the line, followed by white space and the name.
fn included(text: &[u8]) -> Option<core::ops::Range<usize>> {
    let (word, rest) = text.split_at_checked(7)?;
    if !word.eq_ignore_ascii_case(b"include") || !rest.first().is_some_and(|b| is_space(*b)) {
        return None;
    }
    let start = 7 + rest.iter().position(|b| !is_space(*b))?;
    let end = text.iter().skip(start).position(|b| is_space(*b)).map_or(text.len(), |length| start + length);
    Some(start..end)
}

/// `isspace` of the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The line up to the first `#` that has an even number of backslashes before it.
fn without_comment(line: &[u8]) -> &[u8] {
    let mut backslashes = 0_usize;
    for (index, byte) in line.iter().enumerate() {
        match byte {
            b'#' if backslashes.is_multiple_of(2) => return line.get(..index).unwrap_or(line),
            b'\\' => backslashes += 1,
            _ => backslashes = 0,
        }
    }
    line
}

/// The line without a backslash that continues it on the next line, and whether there is one.
fn without_continuation(line: &[u8]) -> (&[u8], bool) {
    let end = line.iter().rposition(|b| !is_space(*b)).map_or(0, |last| last + 1);
    let text = line.get(..end).unwrap_or(line);
    let backslashes = text.iter().rev().take_while(|b| **b == b'\\').count();
    if backslashes % 2 == 1 { (text.get(..end - 1).unwrap_or(text), true) } else { (line, false) }
}

/// Replaces `\x` by `x`, also in quotes.
fn strip_escapes(line: &mut Line) {
    if !line.text.contains(&b'\\') {
        return;
    }
    let (mut text, mut offsets) = (Vec::new(), Vec::new());
    let mut pairs = line.text.iter().zip(&line.offsets);
    while let Some((byte, offset)) = pairs.next() {
        let (byte, offset) = if *byte == b'\\' {
            let Some(escaped) = pairs.next() else { break };
            escaped
        } else {
            (byte, offset)
        };
        text.push(*byte);
        offsets.push(*offset);
    }
    (line.text, line.offsets) = (text, offsets);
}
