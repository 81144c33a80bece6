//! The lines of `proc_pid_mountinfo(5)`.

use std::borrow::Cow;

/// One mount of a mount namespace.
#[derive(Debug)]
pub(crate) struct Mount<'a> {
    pub id: &'a str,
    /// `major:minor`
    pub device: &'a str,
    /// The mounted directory, as a path from the root of the file system.
    pub root: Cow<'a, str>,
    pub point: Cow<'a, str>,
    /// The type of the file system.
    pub kind: &'a str,
}

/// The mount table of a process; `process` is a number or `self`. Bytes that are not UTF-8 are replaced.
pub(crate) fn table_of(process: &str) -> std::io::Result<String> {
    std::fs::read(format!("/proc/{process}/mountinfo")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn mounts(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ');
        let (id, device) = (fields.next()?, fields.nth(1)?);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        Some(Mount { id, device, root, point, kind: rest.split(' ').next()? })
    })
}

/// Blanks, tabs, newlines and backslashes are written in octal.
fn unescape(path: &str) -> Cow<'_, str> {
    if !path.contains('\\') {
        return Cow::Borrowed(path);
    }
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    Cow::Owned(codes.into_iter().fold(path.to_owned(), |path, (code, meant)| path.replace(code, meant)))
}
