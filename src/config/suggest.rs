//! "Did you mean": finds the known word that is nearest to a misspelt one.

/// Longer words are not compared: they are not typos, and the cost is quadratic.
const MAX_LEN: usize = 40;

/// The known word that differs from `word` by few edits, ignoring letter case.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_LEN {
        return None;
    }
    let word = plain(word);
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= edits_for(candidate))
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .min_by_key(|&(edits, _)| edits)
        .filter(|&(edits, candidate)| edits <= edits_for(candidate))
        .map(|(_, candidate)| candidate)
}

/// Whether the word is so near to a known word that it is probably a typo.
pub(super) fn is_typo<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> bool {
    if word.len() > MAX_LEN {
        return false;
    }
    let word = plain(word);
    known.into_iter().any(|known| known.len().abs_diff(word.len()) <= 2 && distance(&word, &plain(known)) <= 2)
}

/// The number of edits that still look like a typo.
fn edits_for(known: &str) -> usize {
    1 + known.len() / 4
}

/// `did you mean "x"?`, or the text of `otherwise`.
pub(super) fn hint<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    match nearest(word, known) {
        Some(found) => format!("did you mean \"{found}\"?"),
        None => otherwise(),
    }
}

/// Converts letters to lower case, and `-` to `_`: `BasePath` is near `base_path`.
fn plain(word: &str) -> Vec<u8> {
    word.bytes().map(|b| if b == b'-' { b'_' } else { b.to_ascii_lowercase() }).collect()
}

/// The number of edits between two words: insert, remove, replace, or swap neighbours.
fn distance(a: &[u8], b: &[u8]) -> usize {
    // Three rows of the usual table. The row before the last one is for swaps.
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (i, &ca) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        let mut previous_b = None;
        for (j, &cb) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, j) + usize::from(ca != cb)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if previous_a == Some(cb) && previous_b == Some(ca) {
                best = best.min(at(&before, j.wrapping_sub(1)) + 1);
            }
            row.push(best);
            previous_b = Some(cb);
        }
        before = std::mem::replace(&mut last, row);
        previous_a = Some(ca);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_usual_mistakes() {
        let keys = ["base_path", "dirs", "dir_confs", "shared", "CLONE_NEWPID"];
        assert_eq!(nearest("base_pth", keys), Some("base_path"));
        assert_eq!(nearest("base-path", keys), Some("base_path"));
        assert_eq!(nearest("BasePath", keys), Some("base_path"));
        assert_eq!(nearest("Shared", keys), Some("shared"));
        assert_eq!(nearest("CLONE_NEWPDI", keys), Some("CLONE_NEWPID"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }

    #[test]
    fn counts_edits() {
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"abcd", b"acbd"), 1);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
