//! Paths that were probably meant differently: pasted from a web page, or written as for a shell. Without a message, each
//! would be read literally.

use crate::config::problem::{Level, Refusal, is_unseen, quote};

/// The first invisible character. This includes variation selectors, which change the character before them.
fn invisible(text: &str) -> Option<char> {
    text.chars().find(|&c| is_unseen(c) || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0080}'..='\u{e01ef}'))
}

/// The code of a character, with its name if it is a common one.
fn named(c: char) -> String {
    let name = match c {
        '\u{a0}' | '\u{202f}' => " (no-break space)",
        '\u{ad}' => " (soft hyphen)",
        '\u{200b}' => " (zero-width space)",
        '\u{200c}' | '\u{200d}' => " (zero-width joiner)",
        '\u{feff}' => " (byte order mark)",
        _ => "",
    };
    format!("U+{:04X}{name}", u32::from(c))
}

/// The hint for an invisible character in a key.
pub(super) fn invisible_hint(key: &str) -> Option<String> {
    let c = invisible(key)?;
    Some(format!("it contains the invisible character {}: remove it", named(c)))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '\u{ab}' | '\u{bb}' | '\u{2018}'..='\u{201f}' | '\u{2039}' | '\u{203a}')
}

/// The most serious remark on a path as written. `hash_is_meant`: the file can contain a `#` only if it is escaped.
pub(super) fn remark(text: &str, hash_is_meant: bool) -> Option<(Level, Refusal)> {
    let says = |level, what: String, hint: &str| Some((level, Refusal::new(what, hint)));
    if let Some(c) = invisible(text) {
        let what = format!("contains the invisible character {}", named(c));
        return says(Level::Error, what, "remove it, or retype the path");
    }
    let ends = [text.chars().next(), text.chars().next_back()];
    if let Some(c) = ends.into_iter().flatten().find(|&c| is_quote(c)) {
        let what = format!("starts or ends with the quotation mark {c} ({})", named(c));
        return says(Level::Error, what, "write the path without quotation marks, or in plain double quotes");
    }
    if !text.trim_start().starts_with('/') {
        // A relative path is refused anyway.
        return None;
    }
    let warns = |what: &str, hint| says(Level::Warning, what.to_owned(), hint);
    if let Some(variable) = variable(text) {
        let what = format!("contains {}, but variables are not replaced here", quote(variable));
        return says(Level::Warning, what, "write the value; the manual page lists the patterns with %");
    }
    if text.contains(":/") {
        return warns("contains a \":\" and is one path", "separate directories by commas");
    }
    if text.contains('#') && !hash_is_meant {
        let hint = "a comment starts after a space, outside quotation marks";
        return warns("contains a \"#\" that does not start a comment", hint);
    }
    if text.contains(' ') {
        return warns(
            "contains a space and is one path",
            "scripts get no arguments, and directories are separated by commas",
        );
    }
    if let Some(c) = text.chars().find(|&c| is_quote(c) || matches!(c, '*' | '?' | '{' | '}' | '[' | ']' | ',' | ';')) {
        let what = format!("contains {}, which has no special meaning here", quote(&c.to_string()));
        return says(Level::Warning, what, "write the path of one directory or file");
    }
    None
}

/// `$NAME`, `${NAME}` or `$(`, as a shell would read it.
fn variable(text: &str) -> Option<&str> {
    let start = text.find('$')?;
    let rest = text.get(start..)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '}' | '(' | ')');
    let length = 1 + rest.get(1..)?.find(|c| !is_name(c)).unwrap_or(rest.len() - 1);
    rest.get(..length).filter(|found| found.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_mistakes_are_errors_and_likely_mistakes_are_warnings() {
        for bad in [
            "/local/jc\u{a0}",
            "/local/\u{200b}jc",
            "/local\u{202f}/jc",
            "\u{feff}/local",
            "/a\u{e0041}",
            "\u{201c}/local/jc\u{201d}",
            "'/local/jc'",
            "/local/jc\"",
            "\u{ab}/a\u{bb}",
        ] {
            assert_eq!(remark(bad, false).map(|(level, _)| level), Some(Level::Error), "{bad:?}");
        }
        for odd in [
            "/local/$USER",
            "/local/${SLURM_JOB_ID}/x",
            "/local/$(hostname)",
            "/tmp:/var/tmp",
            "/etc/init.sh --verbose",
            "/local/jc # fast",
            "/local/jc#fast",
            "/local/jc ",
            "/o'brien/x",
            "/scratch/*",
            "/scratch/{a,b}",
            "/a,/b",
            "/a;",
        ] {
            assert_eq!(remark(odd, false).map(|(level, _)| level), Some(Level::Warning), "{odd:?}");
        }
        for fine in
            ["/local/jc", "/a-b_c.d+e@f=g", "/ns/%h/%n", "/s/%u/%04j", "/été/日本", "/a:b", "/cost$", "relative", "~"]
        {
            assert_eq!(remark(fine, false), None, "{fine:?}");
        }
        assert_eq!(remark("/c#1", true), None);
    }
}
