//! Cases for `tests/config_libslurm`, which calls libslurm's own hostlist functions, and our verdicts.
//!
//! With `LIBSLURM_CASES=FILE` they are written to FILE: `LIBSLURM_COUNT` cases (200,000) from the seed
//! `LIBSLURM_SEED` (1), one a line: list, tab, node, tab, and `y`, `n`, or `e` for refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop where they fail")]

use std::fmt::Write as _;
use std::io::Write as _;

use slurm_jobns::config::hostlist;

/// xorshift64*: the same cases everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(words.len() as u64)).unwrap();
        words[index]
    }
}

/// A number, often with zeros in front.
fn number(random: &mut Random, value: u64) -> String {
    let width = if random.one_in(3) { usize::try_from(random.below(6)).unwrap() } else { 0 };
    format!("{value:0width$}")
}

/// One name of a list, and a host that it stands for.
fn name(random: &mut Random) -> (String, String) {
    let prefix = random.pick(&["n", "node", "a-b", "n0", "rack1-", "r2c", "x.y", "", "N"]);
    let (mut list, mut host) = (prefix.to_owned(), prefix.to_owned());
    let groups = random.pick(&["", "1", "1", "1", "1", "1", "11", "11", "111"]).len();
    for group in 0..groups {
        // Slurm expands the groups, so a few large ones would take it minutes.
        let last = group + 1 == groups;
        let count = 1 + random.below(if groups > 1 { 3 } else { 4 });
        let chosen = random.below(count);
        list.push('[');
        for range in 0..count {
            let from = match random.below(8) {
                0 => 0,
                1 => 8 + random.below(4),
                2 => 98 + random.below(4),
                3 => random.below(100_000),
                _ => random.below(30),
            };
            let length = match random.below(12) {
                0 if groups == 1 => random.below(3_000),
                1 if groups == 1 && random.one_in(20) => 65_530 + random.below(10),
                _ if groups > 1 => random.below(4),
                _ => random.below(12),
            };
            let low = number(random, from);
            if range > 0 {
                list.push(',');
            }
            let written = if length == 0 && random.one_in(2) {
                low.clone()
            } else {
                let high = from + length;
                let high =
                    if random.one_in(6) { number(random, high) } else { format!("{high:0width$}", width = low.len()) };
                format!("{low}-{high}")
            };
            list.push_str(&written);
            if range == chosen {
                let value = from + random.below(length + 1);
                let _ = write!(host, "{value:0width$}", width = low.len());
            }
        }
        list.push(']');
        let between = if last {
            random.pick(&["", "", "", "", "-ib", "x", "0", "12"])
        } else {
            random.pick(&["", "c", "-", "n", "0"])
        };
        list.push_str(between);
        host.push_str(between);
    }
    if groups == 0 {
        let suffix = match random.below(5) {
            0 => String::new(),
            1 => format!("{}-ib", random.below(20)),
            _ => {
                let value = random.below(120);
                number(random, value)
            }
        };
        list.push_str(&suffix);
        host.push_str(&suffix);
    }
    (list, host)
}

/// One edit somewhere in the text.
fn edit(random: &mut Random, text: &mut String, letters: &[&str]) {
    let at = usize::try_from(random.below(text.len() as u64 + 1)).unwrap();
    match random.below(3) {
        0 if at < text.len() => {
            text.remove(at);
        }
        1 if at < text.len() => text.replace_range(at..=at, random.pick(letters)),
        _ => text.insert_str(at, random.pick(letters)),
    }
}

fn case(random: &mut Random) -> (String, String) {
    let count = 1 + random.below(3);
    let chosen = random.below(count);
    let (mut list, mut node) = (String::new(), String::new());
    for index in 0..count {
        let (text, host) = name(random);
        if index > 0 {
            list.push_str(random.pick(&[",", ",", ",", " ", ", ", ",,"]));
        }
        list.push_str(&text);
        if index == chosen {
            node = host;
        }
    }
    if random.one_in(2) {
        edit(random, &mut node, &["0", "1", "9", "n", "-", "x"]);
    }
    if random.one_in(6) {
        edit(random, &mut list, &["[", "]", "-", ",", "0", "7", "x", " ", "[]", "a"]);
    }
    // A node always has a name.
    if node.is_empty() {
        node.push('n');
    }
    (list, node)
}

#[test]
fn cases() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).ok().map_or(otherwise, |text| text.replace(['_', ','], "").parse().unwrap())
    };
    let file = std::env::var_os("LIBSLURM_CASES");
    // Without libslurm, this is about the cases themselves.
    let count = if file.is_some() { number("LIBSLURM_COUNT", 200_000) } else { 20_000 };
    let mut random = Random(number("LIBSLURM_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = Vec::new();
    let mut verdicts = [0_u64; 3];
    for _ in 0..count {
        let (list, node) = case(&mut random);
        let (index, verdict) = match hostlist::contains(&list, &node) {
            Ok(true) => (0, "y"),
            Ok(false) => (1, "n"),
            Err(_) => (2, "e"),
        };
        verdicts[index] += 1;
        writeln!(out, "{list}\t{node}\t{verdict}").unwrap();
    }
    println!("{verdicts:?}");
    assert!(verdicts.iter().all(|&found| found > count / 25), "cases of one kind only: {verdicts:?}");
    if let Some(file) = file {
        std::fs::write(file, out).unwrap();
    }
}
