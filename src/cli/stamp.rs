//! `jobns stamp`: makes a plugin for one micro release of Slurm fit another micro release of the same line.
//!
//! Slurm loads a plugin only if its `plugin_version` is Slurm's own version, micro release included
//! (src/common/plugin.c). The structures that the plugin reads rarely change within a line. A plugin that took the
//! version from the daemon would always load, even if the structures have changed. With this command, the administrator
//! who updates Slurm decides. It changes one word of the file. It cannot change the line, because the differences between
//! lines are compiled in.

use crate::base::error::Words;
use crate::cli::help::STAMP;
use crate::cli::options;
use crate::cli::options::{Reader, Stop, Word};
use crate::cli::{answer, words};
use crate::slurm_version::{MARK_BACKWARDS, RELEASES, Version};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The maximum size of a plugin.
const MAX_SIZE: u64 = 64 << 20;

/// `jobns stamp`
pub(crate) fn main(arguments: &[OsString]) -> Result<ExitCode, String> {
    let Some(operands) = options::or_help(&STAMP, parse(arguments))? else { return Ok(ExitCode::SUCCESS) };
    let [file, rest @ ..] = operands.as_slice() else {
        return Err("stamp needs a file; see jobns stamp --help".to_owned());
    };
    let path = Path::new(file);
    let mut content = read(path)?;
    let (place, is) = find(&content).map_err(|why| format!("{}: {why}", path.display()))?;
    let wanted = match rest {
        [] => return answer(&format!("{}: for Slurm {is}\n", path.display())).map(|()| ExitCode::SUCCESS),
        [wanted] => version(&wanted.to_string_lossy())?,
        _ => return Err("stamp takes a file and a version; see jobns stamp --help".to_owned()),
    };
    if (wanted.major, wanted.minor) != (is.major, is.minor) {
        return Err(format!(
            "{}: is for Slurm {}.{:02} and cannot be stamped for {wanted}; hint: make SLURM_VERSION={wanted}",
            path.display(),
            is.major,
            is.minor
        ));
    }
    if let Some(word) = content.get_mut(place..place + 4) {
        word.copy_from_slice(&wanted.number().to_ne_bytes());
    }
    replace(path, &content)?;
    let compared = RELEASES.iter().find(|row| row.line == (is.major, is.minor)).map_or(0, |row| row.compared);
    let mut said = format!("{}: was for Slurm {is}, is now for {wanted}\n", path.display());
    if wanted.micro > compared {
        let _ = writeln!(
            said,
            "note: this plugin was compared with the structures of Slurm up to {}.{:02}.{compared}; for {wanted}, run make abi-check",
            is.major, is.minor
        );
    }
    answer(&said).map(|()| ExitCode::SUCCESS)
}

fn parse(arguments: &[OsString]) -> Result<Vec<OsString>, Stop> {
    let mut reader = Reader::new(&STAMP, arguments);
    let mut operands = Vec::new();
    while let Some(word) = reader.next()? {
        if let Word::Operand(operand) = word {
            operands.push(operand);
        }
    }
    Ok(operands)
}

/// `26.05.5`
fn version(text: &str) -> Result<Version, String> {
    let numbers: Vec<Option<u32>> =
        text.split('.').map(|part| part.parse().ok().filter(|number| *number < 256)).collect();
    match numbers.as_slice() {
        [Some(major), Some(minor), Some(micro)] => Ok(Version { major: *major, minor: *minor, micro: *micro }),
        _ => Err(format!("{text:?} is not a version of Slurm, such as 26.05.5")),
    }
}

/// The version of Slurm that a plugin of slurm-jobns is for.
pub(super) fn version_of(content: &[u8]) -> Option<Version> {
    find(content).ok().map(|(_, version)| version)
}

/// The offset of `plugin_version` in a plugin of slurm-jobns, and its value.
fn find(content: &[u8]) -> Result<(usize, Version), &'static str> {
    let mut places = content
        .windows(MARK_BACKWARDS.len())
        .enumerate()
        .filter(|(_, window)| window.last() == MARK_BACKWARDS.first() && window.iter().rev().eq(&MARK_BACKWARDS))
        .map(|(at, _)| at);
    let (Some(mark), None) = (places.next(), places.next()) else {
        return Err("it is not a plugin of slurm-jobns");
    };
    let place = mark.checked_sub(4).ok_or("it is damaged")?;
    let word = content.get(place..mark).and_then(|word| word.try_into().ok()).ok_or("it is damaged")?;
    let found = Version::from_number(u32::from_ne_bytes(word));
    if RELEASES.iter().any(|row| row.line == (found.major, found.minor)) {
        Ok((place, found))
    } else {
        Err("it is damaged, or for another kind of machine")
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("{}: {}", path.display(), words(&error)))?.len();
    if size > MAX_SIZE {
        return Err(format!("{}: it is not a plugin of slurm-jobns", path.display()));
    }
    std::fs::read(path).map_err(|error| format!("cannot read {}: {}", path.display(), words(&error)))
}

/// Replaces the file by a new one, because a running slurmd has the old one mapped.
fn replace(path: &Path, content: &[u8]) -> Result<(), String> {
    let old = std::fs::metadata(path).map_err(|error| format!("{}: {}", path.display(), words(&error)))?;
    if path.is_symlink() {
        return Err(format!("{} is a symbolic link; hint: name the file that it points to", path.display()));
    }
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".new.{}", std::process::id()));
    let new = PathBuf::from(name);
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.set_permissions(std::fs::Permissions::from_mode(old.permissions().mode() & 0o7777))?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|error: std::io::Error| {
        let _ = std::fs::remove_file(&new);
        format!("cannot replace {}: {}", path.display(), words(&error))
    })?;
    let sync = |dir: &Path| -> Result<(), Errno> {
        rustix::fs::fsync(rustix::fs::openat(CWD, dir, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(dir).map_err(|errno| format!("{}: {}", dir.display(), Words(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm_version::mark;

    fn plugin(number: u32) -> Vec<u8> {
        [b"\x7fELF....".as_slice(), &number.to_ne_bytes(), &mark(), b"...."].concat()
    }

    fn run(arguments: &[&std::ffi::OsStr]) -> Result<ExitCode, String> {
        main(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_the_version_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("namespace_linux.so");
        std::fs::write(&path, plugin(0x1a_0505)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        run(&[path.as_os_str(), "26.05.7".as_ref()]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), plugin(0x1a_0507));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_refused_file_does_not_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("namespace_linux.so");
        for (content, wanted, why) in [
            (plugin(0x1a_0505), "25.11.5", "is for Slurm 26.05 and cannot be stamped for 25.11.5"),
            (plugin(0x1a_0505), "26.05", "is not a version of Slurm"),
            (plugin(0x1a_0505), "26.05.256", "is not a version of Slurm"),
            (plugin(0x0102_0304), "26.05.5", "it is damaged"),
            (b"\x7fELF".to_vec(), "26.05.5", "it is not a plugin of slurm-jobns"),
            ([plugin(0x1a_0505), plugin(0x1a_0505)].concat(), "26.05.5", "it is not a plugin of slurm-jobns"),
            (mark().to_vec(), "26.05.5", "it is damaged"),
        ] {
            std::fs::write(&path, &content).unwrap();
            let said = run(&[path.as_os_str(), wanted.as_ref()]).unwrap_err();
            assert!(said.contains(why), "{said}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }
}
