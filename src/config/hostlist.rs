//! Slurm's hostlists: whether a node is in `n[1-3,7],login0[1-2]-ib`.
//!
//! [`contains`] expands nothing. It matches each name in the list against the node name and keeps the set of positions in
//! the node name that the pattern can have reached. A group such as `[1-3,7]` moves each position past every number of
//! the group that the node name has there. The names that match are exactly those in Slurm's list: `[08-10]` means `08`,
//! `09` and `10`, and `[8-10]` means `8`, `9` and `10`.

use crate::config::limits::{MAX_HOST_GROUPS, MAX_HOST_RANGE, MAX_HOST_WORK, MAX_NODE_NAME};
use crate::config::problem::{Refusal, quote, refuse};

/// Digits of a number at most: those of the largest `u64`.
const MAX_DIGITS: usize = 20;

/// Whether `node` is in the list. Checks the whole list, even after a name that matches.
///
/// # Errors
/// If Slurm could not read the list either, or the list exceeds [`super::limits`].
pub fn contains(list: &str, node: &str) -> Result<bool, Refusal> {
    if node.len() > MAX_NODE_NAME {
        return refuse(
            format!("cannot be searched for a node name of {} bytes", node.len()),
            format!("a node name can have at most {MAX_NODE_NAME}"),
        );
    }
    let mut work = MAX_HOST_WORK;
    let mut found = false;
    for name in names(list) {
        found |= if name.contains(['[', ']']) { matches(name, node, &mut work)? } else { name == node };
    }
    Ok(found)
}

/// All nodes in the list; `None` if there are more than `most`.
///
/// # Errors
/// As [`contains`].
pub(crate) fn expand(list: &str, most: usize) -> Result<Option<Vec<String>>, Refusal> {
    // This checks the list as a whole.
    contains(list, "")?;
    let mut all = Vec::new();
    for name in names(list) {
        let mut made = vec![String::new()];
        let mut rest = name;
        while let Some((literal, group)) = rest.split_once('[') {
            let (ranges, tail) = group.split_once(']').unwrap_or((group, ""));
            let mut next = Vec::new();
            for text in ranges.split(',') {
                let range = Range::read(text)?;
                for before in &made {
                    for value in range.low..=range.high {
                        if all.len() + next.len() >= most {
                            return Ok(None);
                        }
                        next.push(format!("{before}{literal}{value:0width$}", width = range.width));
                    }
                }
            }
            made = next;
            rest = tail;
        }
        all.extend(made.into_iter().map(|before| before + rest));
        if all.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// Explains a name that means several nodes elsewhere, or would mean this node by another rule, but is in fact not the
/// name of this node.
pub(crate) fn idiom(name: &str, node: &str) -> Option<Refusal> {
    // Most names are not odd, and text that is too long for a name is not worth the time.
    let is_word = ["ALL", "DEFAULT"].iter().any(|word| name.eq_ignore_ascii_case(word));
    let odd = |c: char| matches!(c, '*' | '?' | '{' | '}' | '.') || c.is_ascii_uppercase();
    if name.len() > MAX_NODE_NAME || !(is_word || name.contains(odd)) || contains(name, node) != Ok(false) {
        return None;
    }
    let quoted = quote(name);
    if is_word {
        return Some(Refusal::new(
            format!("{quoted} is an ordinary name here and does not mean all nodes"),
            "settings for all nodes need no node names",
        ));
    }
    if name.contains(['*', '?']) {
        return Some(Refusal::new(
            format!("{quoted} contains a wildcard, which is an ordinary character here"),
            "write a hostlist such as n[1-9]",
        ));
    }
    if name.contains(['{', '}']) || name.contains("..") {
        return Some(Refusal::new(
            format!("{quoted} contains braces or dots as in a shell, which have no meaning here"),
            "write a hostlist such as n[1-9]",
        ));
    }
    let short = name.split_once('.').map_or(name, |(short, _)| short);
    if short != name && contains(short, node) == Ok(true) {
        return Some(Refusal::new(
            format!("{quoted} does not match {}: names are compared in full, and NodeName has no domain", quote(node)),
            format!("write {short}"),
        ));
    }
    if !name.contains('[') && name.eq_ignore_ascii_case(node) {
        return Some(Refusal::new(
            format!("{quoted} does not match {}: letter case matters", quote(node)),
            format!("write {node}"),
        ));
    }
    None
}

/// Splits at commas and white space outside brackets, as Slurm does.
pub(super) fn names(list: &str) -> impl Iterator<Item = &str> {
    let mut in_brackets = false;
    list.split(move |c: char| {
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ => {}
        }
        !in_brackets && matches!(c, ',' | ' ' | '\t' | '\n')
    })
    .filter(|name| !name.is_empty())
}

/// A set of positions in a node name. Position `i` is before byte `i`. A name has at most 255 bytes, so 256 bits are
/// enough.
#[derive(Clone, Copy, Default)]
struct Positions([u64; 4]);

impl Positions {
    fn insert(&mut self, position: usize) {
        if let Some(word) = self.0.get_mut(position / 64) {
            *word |= 1 << (position % 64);
        }
    }

    fn contains(self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    fn iter(self, node: &str) -> impl Iterator<Item = usize> {
        (0..=node.len()).filter(move |&position| self.contains(position))
    }
}

/// Whether one name in a list, which may contain bracket groups, matches the node.
fn matches(name: &str, node: &str, work: &mut usize) -> Result<bool, Refusal> {
    // The pattern read so far matches the node name up to each of these positions.
    let mut reached = Positions::default();
    reached.insert(0);
    let mut rest = name;
    let mut groups = 0;
    loop {
        let (literal, group) = match rest.split_once('[') {
            Some((literal, after)) => (literal, Some(after)),
            None => (rest, None),
        };
        if literal.contains(']') {
            return refuse(format!("contains a \"]\" without a \"[\" in {}", quote(name)), "add the missing bracket");
        }
        reached = after_literal(reached, literal, node);
        let Some(group) = group else { break };
        let Some((ranges, tail)) = group.split_once(']') else {
            return refuse(format!("contains a \"[\" without a \"]\" in {}", quote(name)), "add the missing bracket");
        };
        groups += 1;
        if groups > MAX_HOST_GROUPS {
            return refuse(
                format!("has more than {MAX_HOST_GROUPS} bracket groups in {}", quote(name)),
                "write several names",
            );
        }
        reached = after_group(reached, ranges, node, work)?;
        rest = tail;
    }
    Ok(reached.contains(node.len()))
}

fn after_literal(reached: Positions, literal: &str, node: &str) -> Positions {
    let mut next = Positions::default();
    for position in reached.iter(node) {
        if node.as_bytes().get(position..).is_some_and(|tail| tail.starts_with(literal.as_bytes())) {
            next.insert(position + literal.len());
        }
    }
    next
}

fn after_group(reached: Positions, ranges: &str, node: &str, work: &mut usize) -> Result<Positions, Refusal> {
    // The numbers that start at each position, by their count of digits. They are read once, not for each range.
    let numbers: Vec<(usize, Vec<u64>)> =
        reached.iter(node).map(|position| (position, numbers_at(node, position))).collect();
    let mut next = Positions::default();
    for text in ranges.split(',') {
        let range = Range::read(text)?;
        for (position, values) in &numbers {
            for digits in range.widths() {
                *work = work
                    .checked_sub(1)
                    .ok_or_else(|| Refusal::new("is too long to search", "split it into several list entries"))?;
                let value = digits.checked_sub(1).and_then(|index| values.get(index));
                if value.is_some_and(|&value| range.contains(value, digits)) {
                    next.insert(position + digits);
                }
            }
        }
    }
    Ok(next)
}

/// The values of the first digit at `position`, of the first two digits, and so on.
fn numbers_at(node: &str, position: usize) -> Vec<u64> {
    let tail = node.as_bytes().get(position..).unwrap_or_default();
    let mut values = Vec::new();
    let mut value: u64 = 0;
    for byte in tail.iter().take(MAX_DIGITS).take_while(|byte| byte.is_ascii_digit()) {
        match value.checked_mul(10).and_then(|v| v.checked_add(u64::from(byte - b'0'))) {
            Some(more) => value = more,
            None => break,
        }
        values.push(value);
    }
    values
}

/// `3`, `03` or `1-10`.
struct Range {
    low: u64,
    high: u64,
    /// Digits of `low` as written. Shorter numbers are padded with zeros.
    width: usize,
}

impl Range {
    fn read(text: &str) -> Result<Self, Refusal> {
        let (low, high) = match text.split_once('-') {
            // Slurm reads "5-" as "5".
            Some((low, "")) => (low, low),
            Some((low, high)) => (low, high),
            None => (text, text),
        };
        // Digits only: Rust and Slurm would also accept a plus sign.
        let number = |digits: &str| {
            let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
            if is_plain { digits.parse::<u64>().ok() } else { None }
        };
        let (Some(low_value), Some(high_value)) = (number(low), number(high)) else {
            if let Some(dash) = text.chars().find(|&c| matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}')) {
                let what = format!(
                    "contains {}, with the dash U+{:04X} instead of a plain \"-\"",
                    quote(text),
                    u32::from(dash)
                );
                return refuse(what, "write \"-\" between the two numbers");
            }
            return refuse(
                format!("contains {}, which is not a number or a range", quote(text)),
                "write digits, or two numbers with \"-\" between them",
            );
        };
        if low_value > high_value {
            return refuse(format!("contains the range {}, which runs backwards", quote(text)), "swap its ends");
        }
        if high_value - low_value >= MAX_HOST_RANGE {
            return refuse(
                format!("contains the range {} of more than {MAX_HOST_RANGE} hosts", quote(text)),
                "Slurm accepts no more: split it",
            );
        }
        if low.len() > MAX_DIGITS {
            return refuse(format!("contains a number with {} digits", low.len()), format!("use at most {MAX_DIGITS}"));
        }
        Ok(Self { low: low_value, high: high_value, width: low.len() })
    }

    /// The numbers of digits with which the numbers of the range are written.
    fn widths(&self) -> std::ops::RangeInclusive<usize> {
        self.width.max(count_digits(self.low))..=self.width.max(count_digits(self.high))
    }

    /// Whether this number, written with this many digits, is in the range.
    fn contains(&self, value: u64, digits: usize) -> bool {
        (self.low..=self.high).contains(&value) && digits == self.width.max(count_digits(value))
    }
}

fn count_digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests stop where they fail")]
mod tests {
    use super::*;

    fn yes(list: &str, node: &str) {
        assert_eq!(contains(list, node), Ok(true), "{node} in {list}");
    }

    fn no(list: &str, node: &str) {
        assert_eq!(contains(list, node), Ok(false), "{node} not in {list}");
    }

    #[test]
    fn names_and_separators() {
        yes("n1", "n1");
        yes("n1,n2", "n2");
        yes(" n1 n2\t,,n3\n", "n3");
        no("n1", "n10");
        no("n10", "n1");
        no("n1", "n01");
        no("N1", "n1");
        no("", "n1");
        no(",, ,", "");
    }

    #[test]
    fn ranges() {
        yes("n[1-3,7]", "n2");
        yes("n[1-3,7]", "n7");
        no("n[1-3,7]", "n4");
        no("n[1-3,7]", "n");
        no("n[1-3,7]", "n1x");
        yes("n[8-10]", "n10");
        yes("n[08-10]", "n08");
        no("n[8-10]", "n08");
        no("n[08-10]", "n8");
        no("n[08-10]", "n010");
        yes("n[01-100]", "n100");
        yes("n[5-]", "n5");
        yes("a,n[1,2],b", "b");
        yes("nid0000[2-7]", "nid00002");
        yes("[1-3]", "2");
        yes("n[0-65535]", "n65535");
        yes("n[18446744073709551615]", "n18446744073709551615");
    }

    #[test]
    fn several_groups_and_suffixes() {
        yes("rack[1-2]n[3-4]", "rack2n3");
        no("rack[1-2]n[3-4]", "rack3n3");
        yes("n[1-3]-ib", "n2-ib");
        no("n[1-3]-ib", "n2");
        yes("n[1-20][1-20]", "n111");
        yes("n[1-2][0-9]x[3],m", "n15x3");
        // The positions after a group are not confused with one another.
        no("n[1-2][1-2]", "n1");
    }

    #[test]
    fn refusals() {
        for bad in [
            "n[1-3",
            "n1-3]",
            "n[]",
            "n[1,]",
            "n[a]",
            "n[-1]",
            "n[1--3]",
            "n[1-2-3]",
            "n[3-1]",
            "n[1 ]",
            "n[+1]",
            "n[0-65536]",
            "n[0x1]",
            "n[[1]]",
            "n[99999999999999999999999]",
            "n1,n[2",
            "n[00000000000000000000001]",
            "a[1][1][1][1][1][1][1][1][1]",
        ] {
            assert!(contains(bad, "n1").is_err(), "{bad}");
        }
        assert!(contains("n1", &"n".repeat(256)).is_err());
    }

    #[test]
    fn expansion() {
        let all = |list: &str| expand(list, 100).unwrap().unwrap();
        assert_eq!(
            all("n[1-3,07],m,r[1-2]n[9-10]-ib"),
            ["n1", "n2", "n3", "n07", "m", "r1n9-ib", "r1n10-ib", "r2n9-ib", "r2n10-ib"]
        );
        assert_eq!(expand("n[1-101]", 100), Ok(None));
        assert_eq!(expand("n[0-65535][0-65535][0-65535]", 100), Ok(None));
        assert!(expand("n[1-", 100).is_err());
        for name in all("n[8-10]x[001-003]") {
            yes("n[8-10]x[001-003]", &name);
        }
    }

    #[test]
    fn names_that_mean_something_elsewhere() {
        for name in
            ["ALL", "all", "DEFAULT", "*", "n*", "n?", "n{1..4}", "n{1,2}", "n1.cluster.test", "n[1-4].cluster", "N1"]
        {
            assert!(idiom(name, "n1").is_some(), "{name}");
        }
        for name in ["n1", "n2", "gpu", "N5", "n2.cluster.test", "n[1-4]"] {
            assert_eq!(idiom(name, "n1"), None, "{name}");
        }
        // A node may have such a name.
        assert_eq!(idiom("all", "all"), None);
        assert_eq!(idiom("n1.cluster.test", "n1.cluster.test"), None);
    }

    #[test]
    fn long_lists_end() {
        let list = format!("{}[{}]", "[1-9]".repeat(7), "1,".repeat(40_000) + "1");
        assert!(contains(&list, &"1".repeat(255)).is_ok());
        let list = format!("[{}][{}]", "1,12,123,1234,12345,123456,1234567,12345678", "0-65535,".repeat(12_000) + "1");
        let _ = contains(&list, &"1234567".repeat(36));
        let _ = contains(&"[1]".repeat(30_000), &"1".repeat(255));
        let _ = contains(&"[1],".repeat(30_000), &"1".repeat(255));
    }
}
