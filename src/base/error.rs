//! Errors for the log: what was being done, to which path, the system call that failed, its errno in
//! words, and what to do.

use core::fmt;
use rustix::io::Errno;

/// One failure. Displayed as `cannot INTENTION: CALL: ERRNO IN WORDS; hint: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    intention: String,
    cause: Cause,
    hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    Call(&'static str, Errno),
    Because(String),
}

impl Error {
    /// `intention` completes "cannot …"; `call` is the system call that returned `errno`.
    pub fn call(intention: impl Into<String>, call: &'static str, errno: Errno) -> Self {
        Self { intention: intention.into(), cause: Cause::Call(call, errno), hint: None }
    }

    /// `intention` completes "cannot …"; `reason` completes ": …".
    pub fn because(intention: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { intention: intention.into(), cause: Cause::Because(reason.into()), hint: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub const fn has_hint(&self) -> bool {
        self.hint.is_some()
    }

    /// The errno, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::Call(_, errno) => Some(errno),
            Cause::Because(_) => None,
        }
    }

    /// The system call that failed, if one did.
    #[must_use]
    pub const fn name_of_call(&self) -> Option<&'static str> {
        match self.cause {
            Cause::Call(call, _) => Some(call),
            Cause::Because(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.intention)?;
        match &self.cause {
            Cause::Call(call, errno) => write!(f, "{call}: {}", Words(*errno))?,
            Cause::Because(reason) => f.write_str(reason)?,
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// An errno as text. Allocates nothing, so `join` may use it.
#[derive(Debug, Clone, Copy)]
pub struct Words(pub Errno);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The errnos that occur in practice (errno(3)). Others are shown as numbers.
        let (name, words) = match self.0 {
            Errno::PERM => ("EPERM", "operation not permitted"),
            Errno::NOENT => ("ENOENT", "no such file or directory"),
            Errno::SRCH => ("ESRCH", "no such process"),
            Errno::INTR => ("EINTR", "interrupted"),
            Errno::IO => ("EIO", "input/output error"),
            Errno::FBIG => ("EFBIG", "file too large"),
            Errno::BADF => ("EBADF", "bad file descriptor"),
            Errno::CHILD => ("ECHILD", "no such child process"),
            Errno::AGAIN => ("EAGAIN", "resource temporarily unavailable"),
            Errno::NOMEM => ("ENOMEM", "out of memory"),
            Errno::ACCESS => ("EACCES", "permission denied"),
            Errno::BUSY => ("EBUSY", "device or resource busy"),
            Errno::EXIST => ("EEXIST", "file exists"),
            Errno::XDEV => ("EXDEV", "it is on another mount"),
            Errno::NODEV => ("ENODEV", "no such device or file system type"),
            Errno::NOTDIR => ("ENOTDIR", "not a directory"),
            Errno::ISDIR => ("EISDIR", "is a directory"),
            Errno::INVAL => ("EINVAL", "invalid argument"),
            Errno::NFILE => ("ENFILE", "too many open files in the system"),
            Errno::MFILE => ("EMFILE", "too many open files"),
            Errno::TXTBSY => ("ETXTBSY", "text file busy"),
            Errno::NOSPC => ("ENOSPC", "no space left, or a limit was reached"),
            Errno::ROFS => ("EROFS", "read-only file system"),
            Errno::PIPE => ("EPIPE", "broken pipe"),
            Errno::NAMETOOLONG => ("ENAMETOOLONG", "file name too long"),
            Errno::NOSYS => ("ENOSYS", "this kernel (or a filter) lacks the call"),
            Errno::NOTEMPTY => ("ENOTEMPTY", "directory not empty"),
            Errno::LOOP => ("ELOOP", "a symbolic link is in the way"),
            Errno::NOEXEC => ("ENOEXEC", "not an executable format"),
            Errno::USERS => ("EUSERS", "too many users, or nested too deep"),
            Errno::DQUOT => ("EDQUOT", "disk quota exceeded"),
            Errno::TIMEDOUT => ("ETIMEDOUT", "timed out"),
            Errno::CONNREFUSED => ("ECONNREFUSED", "connection refused"),
            Errno::STALE => ("ESTALE", "stale file handle"),
            Errno::OPNOTSUPP => ("EOPNOTSUPP", "operation not supported"),
            other => return write!(f, "errno {}", other.raw_os_error()),
        };
        write!(f, "{words} ({name})")
    }
}

/// Turns the errno of a system call into an [`Error`].
pub trait Doing<T> {
    fn doing(self, call: &'static str, intention: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, call: &'static str, intention: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::call(intention(), call, errno))
    }
}

/// A system call that failed, in a function that makes several. The caller adds the intention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedCall {
    pub name: &'static str,
    pub errno: Errno,
}

/// Names the call that failed.
pub trait Named<T> {
    fn named(self, call: &'static str) -> Result<T, FailedCall>;
}

impl<T> Named<T> for Result<T, Errno> {
    fn named(self, name: &'static str) -> Result<T, FailedCall> {
        self.map_err(|errno| FailedCall { name, errno })
    }
}

/// Turns a failed call into an [`Error`].
pub trait TryingTo<T> {
    fn trying_to(self, intention: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> TryingTo<T> for Result<T, FailedCall> {
    fn trying_to(self, intention: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|FailedCall { name, errno }| Error::call(intention(), name, errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_sentence_with_path_call_errno_and_hint() {
        let error = Error::call("make /base/7", "mkdirat", Errno::EXIST).with_hint("another job has it");
        assert_eq!(error.to_string(), "cannot make /base/7: mkdirat: file exists (EEXIST); hint: another job has it");
        assert_eq!(error.errno(), Some(Errno::EXIST));
    }

    #[test]
    fn an_errno_without_words_is_shown_by_number() {
        assert_eq!(Words(Errno::from_raw_os_error(133)).to_string(), "errno 133");
    }
}
