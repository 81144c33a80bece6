//! One scalar to a boolean, a number or a list of flags, by the rules of Slurm's `data_t`.
//!
//! Slurm keeps every untagged scalar as text, quoted or not, and converts it when a key asks for a
//! type. Where it would take nonsense (`shared: flase` is true there), we refuse.
//!
//! Slurm 25.11 first makes a null or a number of every scalar that looks like one (`data_convert_tree`).
//! Which of the two it is, the release says that this build is for.

use crate::config::settings::Namespaces;
use crate::config::suggest;

/// Does the Slurm that this build is for know nulls and numbers by their looks?
pub(super) const TYPED: bool = crate::slurm_version::RELEASE.typed_scalars;

/// Does Slurm take this for a key that is not set?
pub(super) fn is_unset(text: &str, typed: bool) -> bool {
    text.is_empty() || typed && (text == "~" || text.eq_ignore_ascii_case("null"))
}

/// A number of seconds that Slurm reads. Not set is 0.
pub(super) fn wait(text: &str, typed: bool) -> Option<u32> {
    match number(text) {
        None if typed && is_unset(text, typed) => Some(0),
        None if typed => whole(text),
        found => found,
    }
}

/// `2e1` and `20.0` are 20. One that is not whole Slurm rounds, and we refuse.
fn whole(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    if integer.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
    let shift = exponent.parse::<u8>().ok()?.checked_sub(u8::try_from(fraction.len()).ok()?);
    match shift {
        Some(zeros) => digits.parse::<u32>().ok()?.checked_mul(10_u32.checked_pow(zeros.into())?),
        // What is behind the point must be zeros, as far as the exponent leaves it there.
        None => {
            let kept = integer.len() + usize::from(exponent.parse::<u8>().ok()?);
            let (kept, rest) = digits.split_at_checked(kept)?;
            rest.bytes().all(|b| b == b'0').then(|| kept.parse().ok()).flatten()
        }
    }
}

/// What a scalar says as a boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boolean {
    Value(bool),
    /// Empty, `~` or `null`, which Slurm takes for false.
    Nothing,
    /// Something that Slurm takes for a boolean, but that nobody should write; the value it takes.
    Nonsense(bool),
}

pub(super) fn boolean(text: &str) -> Boolean {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Boolean::Value(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Boolean::Value(false),
        "" | "~" | "null" => Boolean::Nothing,
        other => Boolean::Nonsense(!(other.starts_with('~') || is_zero(other))),
    }
}

/// Would Slurm read this as the number zero? Only used to tell what Slurm would do.
fn is_zero(text: &str) -> bool {
    let hex = text.strip_prefix("0x").map(|digits| !digits.is_empty() && digits.bytes().all(|b| b == b'0'));
    hex.unwrap_or_else(|| {
        let number = text.trim_start_matches(['+', '-']);
        let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !(whole.is_empty() && fraction.is_empty() || exponent.is_empty())
            && whole.bytes().chain(fraction.bytes()).all(|b| b == b'0')
            && exponent.bytes().all(|b| b.is_ascii_digit())
    })
}

/// A number as Slurm reads one of 32 bits: decimal, also with leading zeros, or hexadecimal.
/// Slurm also takes `-1` and what exceeds 32 bits, and makes a wait of 136 years of them.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// Permission bits in octal: `0700`, `700`, `0o700`, `1777`.
pub(super) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    u32::from_str_radix(digits, 8).ok().filter(|&bits| bits <= 0o7777)
}

/// The words of `clone_ns_flags`.
const FLAGS: [&str; 4] = ["CLONE_NEWNS", "CLONE_NEWPID", "CLONE_NEWUSER", "CLONE_NEWIPC"];

/// Adds one word of `clone_ns_flags`, letter case aside; the hint when nobody knows it.
pub(super) fn add_flag(namespaces: &mut Namespaces, word: &str) -> Result<(), String> {
    match word.to_ascii_uppercase().as_str() {
        // Every job gets a mount namespace.
        "CLONE_NEWNS" => {}
        "CLONE_NEWPID" => namespaces.pid = true,
        "CLONE_NEWUSER" => namespaces.user = true,
        "CLONE_NEWIPC" => namespaces.ipc = true,
        "CLONE_NEWCGROUP" | "CLONE_NEWNET" | "CLONE_NEWTIME" | "CLONE_NEWUTS" => {
            return Err(format!("there is no such namespace here, the flags are {}", FLAGS.join(", ")));
        }
        upper => {
            // Without its prefix a flag is too far from its name to be found.
            let full = if upper.starts_with("CLONE_") { upper.to_owned() } else { format!("CLONE_{upper}") };
            return Err(suggest::hint(&full, FLAGS, || format!("the flags are {}", FLAGS.join(", "))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn booleans_as_slurm_reads_them() {
        for text in ["true", "True", "TRUE", "t", "yes", "Y", "on", "On", "1"] {
            assert_eq!(boolean(text), Boolean::Value(true), "{text}");
        }
        for text in ["false", "False", "f", "no", "N", "off", "OFF", "0"] {
            assert_eq!(boolean(text), Boolean::Value(false), "{text}");
        }
        for text in ["", "~", "null", "NULL"] {
            assert_eq!(boolean(text), Boolean::Nothing, "{text}");
        }
        for (text, slurm) in
            [("flase", true), ("2", true), ("00", false), ("0x0", false), ("0.0", false), (" true", true)]
        {
            assert_eq!(boolean(text), Boolean::Nonsense(slurm), "{text}");
        }
    }

    proptest! {
        #[test]
        fn zero_in_every_spelling(text in "[+-]?[0.]{0,4}[1e]?[+-]?[0-9e]{0,3}") {
            // Not 1e-999, which is zero for want of bits.
            let digits = text.trim_start_matches(['+', '-']).split('e').next().unwrap_or_default();
            let zero = text.trim_start_matches(['+', '-']).parse::<f64>() == Ok(0.0) && !digits.contains('1');
            prop_assert_eq!(is_zero(&text), zero);
        }
    }

    #[test]
    fn numbers_as_slurm_reads_them() {
        for (text, value) in [("0", 0), ("10", 10), ("010", 10), ("0x10", 16), ("0XfF", 255), ("4294967295", u32::MAX)]
        {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in [
            "",
            "-1",
            "+5",
            " 5",
            "5s",
            "1e3",
            "1.0",
            "0x",
            "0x-1",
            "0x+1",
            "4294967296",
            "99999999999999999999",
            "ten",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn nulls_and_numbers_as_25_11_reads_them() {
        for text in ["", "~", "null", "NULL"] {
            assert!(is_unset(text, true), "{text}");
            assert_eq!(is_unset(text, false), text.is_empty(), "{text}");
            assert_eq!((wait(text, true), wait(text, false)), (Some(0), None), "{text}");
        }
        assert!(!is_unset("~/jobns", true));
        for (text, value) in [("20.0", 20), ("2e1", 20), ("2E+1", 20), ("2.5e1", 25), ("2.50e1", 25), ("200.00", 200)] {
            assert_eq!((wait(text, true), wait(text, false)), (Some(value), None), "{text}");
        }
        assert_eq!((wait("0x14", true), wait("020", true)), (Some(20), Some(20)));
        for text in ["20.5", "2.55e1", "2e-1", "-2e1", "e1", ".5", "2e10", "2e300", "5s", "1.2.3", "nan", "inf", "2e"] {
            assert_eq!(wait(text, true), None, "{text}");
        }
    }

    #[test]
    fn modes() {
        for (text, value) in [("700", 0o700), ("0700", 0o700), ("0o700", 0o700), ("1777", 0o1777), ("01777", 0o1777)] {
            assert_eq!(mode(text), Some(value), "{text}");
        }
        for text in ["", "0o", "800", "10000", "-700", "0x1ff", "rwx", "0000700"] {
            assert_eq!(mode(text), None, "{text}");
        }
    }
}
