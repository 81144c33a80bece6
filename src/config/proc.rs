//! `proc_options`: mount options of the fresh `/proc` of a PID namespace. Only this plugin has this key.

use crate::config::limits::MAX_WORDS;
use crate::config::problem::{Place, Report, Scalar, quote};
use crate::config::settings::HidePid;
use crate::config::suggest;

const HIDE_PIDS: &str = "hidepid is off (0), noaccess (1), invisible (2) or ptraceable (4)";

/// `proc_options`: options, separated by commas.
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
                    report.error(at, "hidepid appears twice in proc_options", "keep one of the two");
                }
                found = Some(hide_pid(word, value, at, report));
            }
            // The other options of the kernel:
            "subset" => report.error(
                at,
                "subset is not an option of proc_options: slurmstepd (cgroup/v2) reads /proc/mounts in the job, and no step would start",
                "remove it",
            ),
            "gid" => report.error(
                at,
                "gid is not an option of proc_options",
                "remove it: the processes of a job belong to its user and to root",
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
    let found = HidePid::ALL.into_iter().find(|known| known.name() == value || known.number().to_string() == value);
    found.unwrap_or_else(|| {
        let hint = suggest::hint(value, HidePid::ALL.iter().map(|known| known.name()), || HIDE_PIDS.to_owned());
        report.error(at, format!("{} in proc_options cannot be parsed", quote(word)), hint);
        HidePid::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let read = |number: &str| {
            let mut report = Report::default();
            report.add_file("f", b"");
            let found = options(&Scalar::new(&format!("hidepid={number}")), &mut report);
            (report.errors() == 0).then_some(found)
        };
        for (number, hide_pid) in ["0", "1", "2", "4"].into_iter().zip(HidePid::ALL) {
            assert_eq!(read(number), Some(hide_pid));
        }
        for bad in ["3", "02", "+2", "", "42"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
