//! Text in a buffer of fixed size, for code that must not allocate.

#![deny(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use core::ffi::CStr;
use core::fmt;

/// At most N-1 bytes of text, NUL-terminated. If more is written, `write!` returns an error and the
/// text is cut.
#[derive(Clone, Debug)]
pub struct FixedText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> FixedText<N> {
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// The text as a C string; None if it contains a NUL.
    #[must_use]
    pub fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_with_nul(self.bytes.get(..=self.len)?).ok()
    }

    /// The text up to the first NUL, for a log line.
    #[must_use]
    pub fn as_log_text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// Appends all bytes, or none if they and the final NUL do not fit.
    pub fn push(&mut self, more: &[u8]) -> fmt::Result {
        let end = self.len.checked_add(more.len()).ok_or(fmt::Error)?;
        if end >= N {
            return Err(fmt::Error);
        }
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(more);
        self.len = end;
        Ok(())
    }
}

impl<const N: usize> Default for FixedText<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for FixedText<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.push(s.as_bytes()).is_ok() {
            return Ok(());
        }
        // Keep what fits: a truncated log line is better than none.
        let room = N.saturating_sub(1).saturating_sub(self.len);
        let _ = self.push(s.as_bytes().get(..room).unwrap_or(&[]));
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write as _;

    #[test]
    fn keeps_what_fits_and_cuts_the_rest() {
        let mut text = FixedText::<8>::new();
        write!(text, "{}", 1234).unwrap();
        assert_eq!(text.as_c_str(), Some(c"1234"));
        assert!(write!(text, "56789").is_err());
        assert_eq!(text.as_log_text(), c"1234567");
    }

    #[test]
    fn refuses_an_inner_nul_as_a_path() {
        let mut text = FixedText::<8>::new();
        text.push(b"a\0b").unwrap();
        assert_eq!(text.as_c_str(), None);
    }
}
