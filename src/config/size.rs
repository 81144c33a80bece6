//! `size` of a private directory: a number of bytes, or a share of what the job has on the node. Pure.
//!
//! ```text
//! 20G                          K, M, G and T are powers of 1024
//! 50%mem max 64G               of the job's memory
//! 2G/core                      for each core of the job
//! 1G/gres/tmp min 1G else 5G   for each gres/tmp of the job; 5 GiB if it has none
//! ```

use crate::config::problem::{Refusal, quote, refuse};
use std::fmt;

/// The largest number that every file system and the kernel's quotas accept.
pub const MAX: u64 = i64::MAX.unsigned_abs();
/// The maximum number of ids in a range: a job may have to look at all of them.
const MAX_PROJECTS: u32 = 1 << 20;
const MAX_PERCENT: u64 = 1000;
/// The maximum length of the name of a generic resource.
const MAX_GRES: usize = 64;
const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

const AMOUNT_HINT: &str = "write a whole number, with K, M, G or T after it, such as 20G";
const SIZE_HINT: &str =
    "write a size such as 20G, 50%mem, 2G/core or 1G/gres/tmp, with min, max and else after a share";

/// A number of bytes or inodes. It is never 0, which the kernel reads as no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(u64);

impl Amount {
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let unit = |&(name, _): &(char, u32)| text.ends_with([name, name.to_ascii_lowercase()]);
        let (digits, shift) = match UNITS.iter().find(|known| unit(known)) {
            Some((_, shift)) => (text.get(..text.len() - 1).unwrap_or_default(), *shift),
            None => (text, 0),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            // 20GB and 20GiB are 20G.
            let plain = text.trim_end_matches(['i', 'B', 'b']);
            let is_plain = plain != text && Self::parse(plain).is_ok();
            return refuse("is not a number", if is_plain { format!("write {plain}") } else { AMOUNT_HINT.to_owned() });
        }
        if digits.starts_with('0') {
            return refuse("begins with a zero", "write a number that is not 0, without zeros in front");
        }
        let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        match number.filter(|number| *number <= MAX) {
            Some(number) => Ok(Self(number)),
            None => refuse("is too large", "write at most 8388607T"),
        }
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// As written in a file.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, shift)| self.0.trailing_zeros() >= *shift) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

/// `project_ids`: the projects that only jobs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectIds {
    first: u32,
    last: u32,
}

impl ProjectIds {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let number = |text: &str| {
            let is_number = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
            // The kernel reserves the largest number.
            text.parse::<u32>().ok().filter(|number| is_number && *number < u32::MAX)
        };
        let range = text.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
        match range {
            Some((first, last)) if last < first => refuse("ends before it begins", "exchange the two numbers"),
            Some((first, last)) if last - first >= MAX_PROJECTS => {
                refuse("is too long", format!("a range can have {MAX_PROJECTS} ids"))
            }
            Some((first, last)) => Ok(Self { first, last }),
            None => refuse("is not a range of ids", "write two numbers from 1 to 4294967294, such as 100000-199999"),
        }
    }

    #[must_use]
    pub const fn first(self) -> u32 {
        self.first
    }

    #[must_use]
    pub const fn last(self) -> u32 {
        self.last
    }

    /// The number of ids; never 0.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.last - self.first + 1
    }

    #[must_use]
    pub const fn contains(self, id: u32) -> bool {
        self.first <= id && id <= self.last
    }
}

/// As written in a file.
impl fmt::Display for ProjectIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// What a job has on this node. `None` where that is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobHas {
    /// Bytes of memory.
    pub memory: Option<u64>,
    pub cores: Option<u64>,
    /// Generic resources with their counts. A resource is listed once for each of its types.
    pub gres: Vec<(String, u64)>,
}

/// `size` of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    Fixed(Amount),
    Share(Share),
}

/// A part of what the job has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    of: Of,
    min: Option<Amount>,
    max: Option<Amount>,
    /// The size for a job whose share is unknown or 0. Without it, such a job is refused.
    otherwise: Option<Amount>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    /// Percent.
    Memory(u64),
    Core(Amount),
    Gres(Amount, String),
}

impl Size {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut words = text.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let of = if let Some(percent) = first.strip_suffix("%mem") {
            let percent = Amount::parse(percent).map(Amount::get).ok().filter(|percent| *percent <= MAX_PERCENT);
            let hint = format!("write a whole number from 1 to {MAX_PERCENT}, such as 50%mem");
            Of::Memory(percent.ok_or_else(|| Refusal::new("has no such percentage", hint))?)
        } else if let Some((amount, unit)) = first.split_once('/') {
            let amount = part(amount)?;
            match (unit, unit.strip_prefix("gres/")) {
                ("core", _) => Of::Core(amount),
                ("cpu" | "cpus" | "cores", _) => {
                    let hint = "write /core: the cores of the job on this node, as Slurm counts them";
                    return refuse("has an unknown word after the slash", hint);
                }
                (_, Some(name)) => Of::Gres(amount, gres(name)?),
                _ => return refuse("has an unknown word after the slash", SIZE_HINT),
            }
        } else {
            let amount = if first == text { Amount::parse(text) } else { part(first) }?;
            if words.next().is_some() {
                return refuse(
                    "has a fixed size and more words after it",
                    "min, max and else are for shares, such as 50%mem",
                );
            }
            return Ok(Self::Fixed(amount));
        };
        let mut share = Share { of, min: None, max: None, otherwise: None };
        while let Some(word) = words.next() {
            let bound = match word {
                "min" => &mut share.min,
                "max" => &mut share.max,
                "else" => &mut share.otherwise,
                _ => return refuse(format!("contains the word {}", quote(word)), SIZE_HINT),
            };
            if bound.is_some() {
                return refuse(format!("has {word} twice"), "keep one of the two");
            }
            let Some(amount) = words.next() else {
                return refuse(format!("has nothing after {word}"), AMOUNT_HINT);
            };
            *bound = Some(part(amount)?);
        }
        match (share.min, share.max) {
            (Some(min), Some(max)) if min > max => refuse("has a min that is more than its max", "exchange them"),
            _ => Ok(Self::Share(share)),
        }
    }

    /// Does it depend on the generic resources of the job?
    #[must_use]
    pub const fn is_by_gres(&self) -> bool {
        matches!(self, Self::Share(Share { of: Of::Gres(..), .. }))
    }

    /// The number of bytes for a job.
    ///
    /// # Errors
    /// What is unknown about the job, or what it does not have.
    pub fn of(&self, job: &JobHas) -> Result<u64, Refusal> {
        let Share { of, min, max, otherwise } = match self {
            Self::Fixed(amount) => return Ok(amount.get()),
            Self::Share(share) => share,
        };
        let times = |amount: &Amount, count: u64| u128::from(amount.get()) * u128::from(count);
        let bytes = match of {
            Of::Memory(percent) => job.memory.map(|memory| u128::from(memory) * u128::from(*percent) / 100),
            Of::Core(amount) => job.cores.map(|cores| times(amount, cores)),
            Of::Gres(amount, name) => {
                let counts = job.gres.iter().filter(|(known, _)| known == name).map(|(_, count)| *count);
                Some(times(amount, counts.fold(0, u64::saturating_add)))
            }
        };
        // 0 would be no limit.
        let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else {
            return otherwise.map(Amount::get).ok_or_else(|| {
                let or = "add else and a size to it, such as else 5G";
                match of {
                    Of::Memory(_) => Refusal::new(
                        "Slurm has no memory limit for the job on this node",
                        format!("submit the job with --mem, or {or}"),
                    ),
                    Of::Core(_) => Refusal::new("the cores of the job on this node are not known", or),
                    Of::Gres(_, name) => Refusal::new(
                        format!("Slurm has no count of gres/{name} for the job on this node"),
                        format!("submit the job with --gres={name}:COUNT, or {or}"),
                    ),
                }
            });
        };
        let bytes = u64::try_from(bytes).unwrap_or(MAX).min(max.map_or(MAX, Amount::get));
        Ok(bytes.max(min.map_or(1, Amount::get)))
    }
}

/// As written in a file.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Share { of, min, max, otherwise } = match self {
            Self::Fixed(amount) => return amount.fmt(f),
            Self::Share(share) => share,
        };
        match of {
            Of::Memory(percent) => write!(f, "{percent}%mem")?,
            Of::Core(amount) => write!(f, "{amount}/core")?,
            Of::Gres(amount, name) => write!(f, "{amount}/gres/{name}")?,
        }
        for (word, amount) in [("min", min), ("max", max), ("else", otherwise)] {
            if let Some(amount) = amount {
                write!(f, " {word} {amount}")?;
            }
        }
        Ok(())
    }
}

/// Parses a number that is part of a size.
fn part(text: &str) -> Result<Amount, Refusal> {
    Amount::parse(text).map_err(|Refusal { what, hint }| match text {
        "" => Refusal::new("lacks a number", SIZE_HINT),
        _ => Refusal::new(format!("contains the number {}, which {what}", quote(text)), hint),
    })
}

/// Checks the name of a generic resource.
fn gres(name: &str) -> Result<String, Refusal> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.contains(':') {
        return refuse("has a type of a generic resource", "leave it out: all types of the resource count");
    }
    if name.is_empty() || name.len() > MAX_GRES || !name.bytes().all(is_name) {
        return refuse(
            "has no name of a generic resource",
            "write it as in GresTypes of slurm.conf, such as 1G/gres/tmp",
        );
    }
    Ok(name.to_owned())
}

/// The number of ids in a list such as `0-3,8`. `None` if the text is not a list or may have been cut.
#[must_use]
pub fn count_of_list(text: &[u8]) -> Option<u64> {
    // Slurm writes it to a buffer of 1024 bytes.
    let text = core::str::from_utf8(text).ok().filter(|text| text.len() < 1000)?;
    text.split(',').try_fold(0_u64, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        sum.checked_add(u64::from(last.checked_sub(first)?) + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Size {
        Size::parse(text).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
    }

    const GIB: u64 = 1 << 30;

    fn job() -> JobHas {
        let gres = [("tmp", 5), ("gpu", 2), ("gpu", 3), ("none", 0)];
        JobHas {
            memory: Some(8 * GIB),
            cores: Some(4),
            gres: gres.map(|(name, count)| (name.to_owned(), count)).to_vec(),
        }
    }

    #[test]
    fn what_a_job_gets() {
        let job = job();
        for (text, expected) in [
            ("20G", 20 * GIB),
            ("4096", 4096),
            ("3k", 3072),
            ("1t", 1 << 40),
            ("50%mem", 4 * GIB),
            ("1%mem", 8 * GIB / 100),
            ("300%mem", 24 * GIB),
            ("50%mem max 3G", 3 * GIB),
            ("50%mem min 5G", 5 * GIB),
            ("50%mem min 1G max 64G else 2G", 4 * GIB),
            ("2G/core", 8 * GIB),
            ("1G/gres/tmp", 5 * GIB),
            ("1G/gres/gpu", 5 * GIB),
            ("1G/gres/absent else 7G", 7 * GIB),
            ("1G/gres/none else 7G min 9G", 7 * GIB),
            ("8388607T/core", MAX),
            ("8388607T/core max 1T", 1 << 40),
        ] {
            assert_eq!(size(text).of(&job), Ok(expected), "{text}");
        }
        let unknown = JobHas::default();
        for (text, why) in [("1%mem", "memory"), ("1G/core min 1G", "cores"), ("1G/gres/tmp max 9G", "gres/tmp")] {
            assert!(size(text).of(&unknown).unwrap_err().what.contains(why), "{text}");
            assert_eq!(size(text).is_by_gres(), why.starts_with("gres"), "{text}");
            assert_eq!(size(&format!("{text} else 3G")).of(&unknown), Ok(3 * GIB));
        }
        assert!(size("1G/gres/none").of(&job).is_err(), "0 is no limit");
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in
            ["20G", "1023", "1025K", "8388607T", "1%mem", "2G/core max 1T", "1G/gres/a-b_c.1 min 1K max 2M else 3"]
        {
            assert_eq!(size(text).to_string(), text);
        }
        assert_eq!(size("1024k").to_string(), "1M");
        assert_eq!(size(" 50%mem  else 1G  max 2G").to_string(), "50%mem max 2G else 1G");
    }

    #[test]
    fn what_is_refused() {
        for (text, said) in [
            ("/core", "lacks a number"),
            ("0", "begins with a zero"),
            ("010G", "begins with a zero"),
            ("-1", "is not a number"),
            ("1.5G", "is not a number"),
            ("", "is not a number"),
            ("20GB", "write 20G"),
            ("20Gib", "write 20G"),
            ("G", "is not a number"),
            ("8388608T", "is too large"),
            ("99999999999999999999", "is too large"),
            ("50%", "is not a number"),
            ("0%mem", "percentage"),
            ("1001%mem", "percentage"),
            ("1G/cpu", "write /core"),
            ("1G/node", "unknown word"),
            ("1G/gres", "unknown word"),
            ("1G/gres/", "no name"),
            ("1G/gres/a b", "the word"),
            ("1G/gres/tmp:ssd", "a type"),
            ("20G max 30G", "fixed size"),
            ("1%mem max", "nothing after max"),
            ("1%mem max 0", "begins with a zero"),
            ("1%mem max 1G max 2G", "twice"),
            ("1%mem most 1G", "the word"),
            ("1%mem min 2G max 1G", "more than its max"),
        ] {
            let refusal = Size::parse(text).expect_err(text).to_string();
            assert!(refusal.contains(said), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_range_of_ids() {
        for text in ["1-1", "100000-199999", "4294967000-4294967294"] {
            assert_eq!(ProjectIds::parse(text).map(|ids| ids.to_string()).as_deref(), Ok(text));
        }
        let ids = ProjectIds::parse("5-9").unwrap();
        assert_eq!((ids.count(), ids.contains(5), ids.contains(9), ids.contains(10)), (5, true, true, false));
        for text in ["", "5", "5-", "-5", "0-5", "9-5", "05-9", "5-4294967295", "1-1048577", "5 - 9", "+5-9", "a-b"] {
            assert!(ProjectIds::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_is_counted() {
        for (text, count) in [("0", 1), ("0-3,8", 5), ("7,9,11-12", 4)] {
            assert_eq!(count_of_list(text.as_bytes()), Some(count), "{text}");
        }
        for text in ["", "3-1", "a", "0-", "0,", "0--3"] {
            assert_eq!(count_of_list(text.as_bytes()), None, "{text}");
        }
        assert_eq!(count_of_list("1,".repeat(500).as_bytes()), None);
    }
}
