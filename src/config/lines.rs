//! Lines of a word and its value: the format of everything that this plugin writes for itself.
//!
//! The settings in the pipe, the state file of a job, and the files in slurmd's spool directory all start with a line
//! that names their format. No text in them contains a control character, so each value ends with its line. A value can
//! consist of several numbers and words, separated by one blank each, with a path at the end, which may contain blanks.
//!
//! Reading does not allocate, because `join` reads in a forked child.

#![deny(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::arithmetic_side_effects
)]

use core::fmt;

/// There is no line that starts with this word, or its value is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine(pub(crate) &'static str);

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line \"{}\" is missing, damaged, or of another format", self.0)
    }
}

/// The lines of a text. A last line without a newline is not one of them.
#[derive(Clone, Debug)]
pub(crate) struct Lines<'a>(pub &'a [u8]);

impl<'a> Lines<'a> {
    /// The lines after the first one, which must be `header`.
    pub(crate) fn after(header: &'static str, text: &'a [u8]) -> Result<Self, BadLine> {
        let mut lines = Self(text);
        if lines.flag(header) { Ok(lines) } else { Err(BadLine(header)) }
    }

    /// Whether the next line starts with this word.
    pub(crate) fn is_next(&self, word: &str) -> bool {
        self.0.strip_prefix(word.as_bytes()).is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'\n')))
    }

    /// Consumes the next line if it is only this word.
    pub(crate) fn flag(&mut self, word: &str) -> bool {
        let rest = self.0.strip_prefix(word.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Consumes the next line if it starts with this word.
    pub(crate) fn value(&mut self, word: &str) -> Option<Fields<'a>> {
        if self.is_next(word) { self.next().map(|(_, value)| value) } else { None }
    }
}

/// Yields the word and the value of each line.
impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], Fields<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix(b"\n")?;
        let mut fields = Fields(line);
        Some((fields.word(), fields))
    }
}

/// The rest of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// Consumes the text before the next blank.
    pub(crate) fn word(&mut self) -> &'a [u8] {
        let mut parts = self.0.splitn(2, |&byte| byte == b' ');
        let word = parts.next().unwrap_or_default();
        self.0 = parts.next().unwrap_or_default();
        word
    }

    /// Consumes a number.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        Fields(self.word()).only()
    }

    /// The number, if the rest of the line is one.
    pub(crate) fn only<T: TryFrom<u64>>(self) -> Option<T> {
        T::try_from(number(self.0)?).ok()
    }

    /// The rest of the line.
    pub(crate) fn text(self) -> Option<&'a str> {
        core::str::from_utf8(self.0).ok()
    }

    /// The rest of the line, if it is an absolute path.
    pub(crate) fn path(self) -> Option<&'a str> {
        self.text().filter(|path| path.starts_with('/'))
    }
}

/// A decimal number as this plugin writes it: no sign, no leading zero.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Writes one line. Fails if `out` has no space for it.
pub(crate) fn put(out: &mut dyn fmt::Write, word: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(out, "{word} {value}")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests may allocate")]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_word_and_its_value() {
        let text = b"x 1\ntree 7 8 /a  b\nready\nuid 9\n\nx\xff y\ntorn 1";
        let mut lines = Lines::after("x 1", text).unwrap();
        let (word, mut value) = lines.next().unwrap();
        assert_eq!((word, value.number(), value.number()), (&b"tree"[..], Some(7_u64), Some(8_u32)));
        assert_eq!(value.path(), Some("/a  b"));
        assert!(lines.is_next("ready") && !lines.is_next("read") && !lines.flag("read") && lines.flag("ready"));
        assert!(lines.value("ui").is_none() && !lines.flag("uid"));
        assert_eq!(lines.value("uid").unwrap().only(), Some(9_u8));
        assert_eq!(lines.next().map(|(word, value)| (word, value.0)), Some((&b""[..], &b""[..])));
        assert_eq!(lines.next().map(|(word, value)| (word, value.0)), Some((&b"x\xff"[..], &b"y"[..])));
        assert!(lines.next().is_none() && lines.value("torn").is_none(), "it is cut off");
    }

    #[test]
    fn what_does_not_fit_is_nothing_and_is_named() {
        for text in ["", "x 1", "x 2\n", "x 1 \n", "x\n"] {
            assert_eq!(Lines::after("x 1", text.as_bytes()).unwrap_err(), BadLine("x 1"), "{text:?}");
        }
        assert_eq!(BadLine("x 1").to_string(), "the line \"x 1\" is missing, damaged, or of another format");
        assert_eq!(Fields(b"256").only::<u8>(), None);
        assert_eq!(Fields(b"1 ").only::<u8>(), None);
        assert_eq!(Fields(b" 1").number::<u8>(), None);
        assert_eq!(Fields(b"\xff").text(), None);
        assert_eq!(Fields(b"a/b").path(), None);
    }

    #[test]
    fn numbers_are_plain_decimal() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"0"), Some(0));
        for bad in [&b""[..], b"-1", b"+1", b" 1", b"00", b"01", b"18446744073709551616", b"1x"] {
            assert_eq!(number(bad), None);
        }
    }
}
