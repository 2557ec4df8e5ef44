//! Numbers, bytes and strings as lib0 writes them, in which Yjs and Hocuspocus say everything.

use anyhow::{Context, Result};

/// Seven bits a byte, the lowest first.
pub(crate) fn write_number(into: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Its length, and what it is.
pub(crate) fn write_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    write_number(into, bytes.len());
    into.extend_from_slice(bytes);
}

/// What is still to be read.
#[derive(Debug)]
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().context("the server sent too little")?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<usize> {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(number)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        let split = self.0.split_at_checked(length);
        let (bytes, rest) = split.context("the server sent too little")?;
        self.0 = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut written = Vec::new();
        write_number(&mut written, 300);
        write_bytes(&mut written, b"text");
        assert_eq!(written, b"\xac\x02\x04text");
        let mut rest = Rest(&written);
        assert_eq!(rest.number().expect("a number"), 300);
        assert_eq!(rest.bytes().expect("a string"), b"text");
        assert!(rest.byte().is_err());
    }
}
