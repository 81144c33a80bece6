//! Writes the JSON of `jobns`. Values are JSON text already.

use std::fmt::Write as _;
pub(crate) fn object<'k>(fields: impl IntoIterator<Item = (&'k str, String)>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|(key, value)| format!("{}:{value}", text(key))).collect();
    format!("{{{}}}", fields.join(","))
}
pub(crate) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}
pub(crate) fn or_null(value: Option<String>) -> String {
    value.unwrap_or_else(|| "null".to_owned())
}

/// A JSON string in ASCII, which is also safe in a terminal.
pub(crate) fn text(from: &str) -> String {
    let mut out = String::with_capacity(from.len() + 2);
    out.push('"');
    for c in from.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use crate::cli::json::text;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(text("a\"b\\c/"), r#""a\"b\\c/""#);
        assert_eq!(text("\n\t\0\x1b\x7f"), r#""\u000a\u0009\u0000\u001b\u007f""#);
        assert_eq!(text("ä\u{2028}\u{202e}😀"), r#""\u00e4\u2028\u202e\ud83d\ude00""#);
        assert_eq!(text(""), r#""""#);
    }
}
