//! `proc_options`: what the fresh `/proc` of a PID namespace is like. Ours, not Slurm's.

use crate::config::limits::MAX_WORDS;
use crate::config::problem::{Place, Report, Scalar, quote};
use crate::config::settings::HidePid;
use crate::config::suggest;

const HIDE_PIDS: &str = "hidepid is off (0), noaccess (1), invisible (2) or ptraceable (4)";

/// `proc_options`: options with commas between them.
pub(super) fn options(scalar: &Scalar, report: &mut Report) -> HidePid {
    let mut found = None;
    for (index, word) in scalar.text.split(',').enumerate() {
        let word = word.trim();
        let at = scalar.place_of(word);
        if index >= MAX_WORDS {
            report.error(at, format!("proc_options has more than {MAX_WORDS} words"), "remove most of them");
            break;
        }
        if word.is_empty() {
            continue;
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "hidepid" => {
                if found.is_some() {
                    report.error(at, "hidepid is in proc_options twice", "keep one of the two");
                }
                found = Some(hide_pid(word, value, at, report));
            }
            // Of the kernel's other options:
            "subset" => report.error(
                at,
                "subset is not an option of proc_options: slurmstepd (cgroup/v2) reads /proc/mounts in the job, and no step would start",
                "leave it out",
            ),
            "gid" => report.error(
                at,
                "gid is not an option of proc_options",
                "leave it out: the processes of a job are its user's and root's",
            ),
            _ => {
                let hint = suggest::hint(key, ["hidepid"], || format!("the only option is hidepid; {HIDE_PIDS}"));
                report.error(at, format!("unknown option {} in proc_options", quote(word)), hint);
            }
        }
    }
    found.unwrap_or_default()
}

fn hide_pid(word: &str, value: &str, at: Place, report: &mut Report) -> HidePid {
    let found = HidePid::ALL.into_iter().find(|known| known.name() == value || is_number(*known, value));
    found.unwrap_or_else(|| {
        let hint = suggest::hint(value, HidePid::ALL.iter().map(|known| known.name()), || HIDE_PIDS.to_owned());
        report.error(at, format!("{} in proc_options cannot be read", quote(word)), hint);
        HidePid::default()
    })
}

fn is_number(hide_pid: HidePid, text: &str) -> bool {
    text.parse() == Ok(hide_pid.number()) && text.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let numbers = ["0", "1", "2", "4"];
        for (hide_pid, number) in HidePid::ALL.into_iter().zip(numbers) {
            assert!(is_number(hide_pid, number));
            for other in ["3", "02", "+2", "", "42"] {
                assert!(!is_number(hide_pid, other), "{other}");
            }
        }
    }
}
