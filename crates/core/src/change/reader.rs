//! A cursor over bytes from outside.

use super::GuardError;

/// Reads from the front of a slice. Every method names what it reads, so that an error can say
/// which part of the change is damaged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes. A claimed length is compared with the bytes that are left before
    /// anything else happens.
    pub(crate) fn take(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], GuardError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (taken, rest) =
            self.rest.split_at_checked(len).ok_or(GuardError::Truncated { what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], GuardError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(GuardError::Truncated { what })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Bytes behind their length.
    pub(crate) fn prefixed(&mut self, what: &'static str) -> Result<&'a [u8], GuardError> {
        let len = self.u64(what)?;
        self.take(len, what)
    }

    /// An unsigned LEB128 number in its shortest form. A longer form would have another hash than
    /// the one that Automerge writes when it saves the change.
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, GuardError> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().take(LEB_BYTES_MAX).enumerate() {
            let last = index + 1 == LEB_BYTES_MAX;
            if (last && byte > 1) || (index > 0 && byte == 0) {
                return Err(GuardError::Number { what });
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(GuardError::Truncated { what })
    }

    /// A signed LEB128 number in its shortest form.
    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, GuardError> {
        let mut value = 0_u64;
        let mut previous = 0_u8;
        for (index, &byte) in self.rest.iter().take(LEB_BYTES_MAX).enumerate() {
            let last = index + 1 == LEB_BYTES_MAX;
            let sign_only = if previous & 0x40 == 0 { 0 } else { 0x7f };
            if (last && byte != 0 && byte != 0x7f) || (index > 0 && byte == sign_only) {
                return Err(GuardError::Number { what });
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if byte & 0x40 != 0 && !last {
                    value |= u64::MAX << (7 * (index + 1));
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value.cast_signed());
            }
            previous = byte;
        }
        Err(GuardError::Truncated { what })
    }
}

/// Bytes of the longest LEB128 form of 64 bits.
const LEB_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::super::encode::{leb, uleb};
    use super::*;

    #[test]
    fn numbers_read_back_as_written() {
        let edges = [0, 1, 63, 64, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX];
        for value in edges {
            let mut bytes = Vec::new();
            uleb(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).u64("number"), Ok(value));
        }
        for value in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, -8192, -8193, i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            leb(&mut bytes, value);
            assert_eq!(Reader::new(&bytes).i64("number"), Ok(value));
        }
    }

    #[test]
    fn numbers_have_one_form() {
        let wrong = Err(GuardError::Number { what: "number" });
        assert_eq!(Reader::new(&[0x81, 0x00]).u64("number"), wrong);
        assert_eq!(Reader::new(&[0xff; 12]).u64("number"), wrong);
        let wrong = Err(GuardError::Number { what: "number" });
        assert_eq!(Reader::new(&[0x81, 0x00]).i64("number"), wrong);
        assert_eq!(Reader::new(&[0xff, 0x7f]).i64("number"), wrong);
        assert_eq!(Reader::new(&[0x80; 12]).i64("number"), wrong);
        let short = Err(GuardError::Truncated { what: "number" });
        assert_eq!(Reader::new(&[0x80, 0x80]).u64("number"), short);
    }
}
