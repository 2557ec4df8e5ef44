//! The columns of a change, and the bytes of each.

use super::GuardError;
use super::reader::Reader;
use crate::limits::CHANGE_COLUMNS_MAX;

pub(super) const OBJECT_ACTOR: u32 = 0x01;
pub(super) const OBJECT_COUNTER: u32 = 0x02;
pub(super) const KEY_ACTOR: u32 = 0x11;
pub(super) const KEY_COUNTER: u32 = 0x13;
pub(super) const KEY_TEXT: u32 = 0x15;
pub(super) const INSERT: u32 = 0x34;
pub(super) const ACTION: u32 = 0x42;
pub(super) const VALUE_META: u32 = 0x56;
pub(super) const VALUE: u32 = 0x57;
pub(super) const PRED_COUNT: u32 = 0x70;
pub(super) const PRED_ACTOR: u32 = 0x71;
pub(super) const PRED_COUNTER: u32 = 0x73;
const EXPAND: u32 = 0x94;
const MARK_NAME: u32 = 0xa5;

/// Every column Automerge 0.12 writes in a change, in its order. It reads others and forgets them,
/// which gives the saved change another hash.
pub(super) const SPECS: [u32; 14] = [
    OBJECT_ACTOR,
    OBJECT_COUNTER,
    KEY_ACTOR,
    KEY_COUNTER,
    KEY_TEXT,
    INSERT,
    ACTION,
    VALUE_META,
    VALUE,
    PRED_COUNT,
    PRED_ACTOR,
    PRED_COUNTER,
    EXPAND,
    MARK_NAME,
];

/// The bit of a specification that says its column is deflated.
const DEFLATE_BIT: u64 = 0b1000;

/// The content of each column, by its place in [`SPECS`]; empty where there is none.
#[derive(Debug)]
pub(super) struct Layout<'a>([&'a [u8]; SPECS.len()]);

impl<'a> Layout<'a> {
    /// Reads the list of columns and the columns behind it.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, GuardError> {
        let count = reader.u64("number of columns")?;
        if count > CHANGE_COLUMNS_MAX as u64 {
            return Err(GuardError::Columns { count, max: CHANGE_COLUMNS_MAX });
        }
        let mut lens = [0; SPECS.len()];
        let mut next = 0;
        for _ in 0..count {
            let place = read_spec(reader, next)?;
            lens[place] = reader.u64("length of a column")?;
            if lens[place] == 0 {
                return Err(GuardError::Form { column: "empty" });
            }
            next = place + 1;
        }
        let mut contents: [&[u8]; SPECS.len()] = [&[]; SPECS.len()];
        for (content, len) in contents.iter_mut().zip(lens) {
            *content = reader.take(len, "columns")?;
        }
        Ok(Self(contents))
    }

    /// The bytes of all values, of any type.
    pub(super) fn values(&self) -> &'a [u8] {
        let place = SPECS.iter().position(|spec| *spec == VALUE);
        place.map_or(&[], |place| self.0[place])
    }

    /// The columns, in the order of [`SPECS`].
    pub(super) fn contents(&self) -> [&'a [u8]; SPECS.len()] {
        self.0
    }
}

/// Reads a specification and finds its place, `next` or later.
fn read_spec(reader: &mut Reader<'_>, next: usize) -> Result<usize, GuardError> {
    let spec = reader.u64("column specification")?;
    if spec & DEFLATE_BIT != 0 {
        return Err(GuardError::DeflatedColumn { spec });
    }
    let found = SPECS[next..].iter().position(|known| u64::from(*known) == spec);
    found.map(|place| next + place).ok_or(GuardError::Column { spec })
}
