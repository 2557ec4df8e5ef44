//! Updates of Yjs, as far as a typed text needs them: format 1, which `src/utils/updates.js` and
//! `src/structs/Item.js` of yjs 13.6 read and write.
//!
//! An update is a number of authors and, for each, the number of runs of text, the author, the
//! number of the first character, and the runs; what was deleted comes last. A run is a byte that
//! says what it is, the character it was typed after (or, for the first, the field of the document
//! that the text is in), and the text.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::lib0::{Rest, write_bytes, write_number};
use crate::history::letter;

/// The low bits of the first byte of a run: that it is text.
const TEXT: u8 = 4;
const KIND: u8 = 0x1f;
/// The others: what is to the left of it, and what to the right.
const AFTER: u8 = 0x80;
const BEFORE: u8 = 0x40;
/// The number that says that a name of a field follows.
const FIELD: usize = 1;
const NAME: &[u8] = b"text";

/// Somebody types a text, one character an update.
#[derive(Debug)]
pub(crate) struct Updates {
    pub(crate) updates: Vec<Vec<u8>>,
}

impl Updates {
    pub(crate) fn typed(changes: usize) -> Self {
        let author = rand::random();
        let updates = (0..changes).map(|position| typed(author, position..position + 1));
        Self { updates: updates.collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.updates.len()
    }
}

/// The update that brings these characters, as Yjs makes one of what was typed without a break.
pub(crate) fn typed(author: u32, characters: Range<usize>) -> Vec<u8> {
    let author = author as usize;
    let mut update = Vec::with_capacity(characters.len() + 24);
    for number in [1, 1, author, characters.start] {
        write_number(&mut update, number);
    }
    match characters.start.checked_sub(1) {
        None => {
            update.push(TEXT);
            write_number(&mut update, FIELD);
            write_bytes(&mut update, NAME);
        }
        Some(last) => {
            update.push(TEXT | AFTER);
            write_number(&mut update, author);
            write_number(&mut update, last);
        }
    }
    let text: String = characters.map(letter).collect();
    write_bytes(&mut update, text.as_bytes());
    // Nothing was deleted.
    write_number(&mut update, 0);
    update
}

/// Which characters of the one author an update brings.
pub(crate) fn brought(update: &[u8]) -> Result<Range<usize>> {
    let mut rest = Rest(update);
    let authors = rest.number()?;
    if authors == 0 {
        return Ok(0..0);
    }
    ensure!(authors == 1, "the text has {authors} authors instead of one");
    let runs = rest.number()?;
    let _author = rest.number()?;
    let start = rest.number()?;
    let mut end = start;
    for _ in 0..runs {
        let kind = rest.byte()?;
        ensure!(kind & KIND == TEXT, "an update brings what is no text, of kind {kind:#x}");
        for _ in [AFTER, BEFORE].into_iter().filter(|side| kind & side != 0) {
            let (_author, _character) = (rest.number()?, rest.number()?);
        }
        if kind & (AFTER | BEFORE) == 0 {
            ensure!(rest.number()? == FIELD && rest.bytes()? == NAME, "this is another text");
        }
        // One byte each: all that is typed here are small letters.
        end += rest.bytes()?.len();
    }
    Ok(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: u32 = 300;

    /// What yjs 13.6.33 made of the same typing, by an author of this number.
    #[test]
    fn updates_are_those_of_yjs() {
        let of_yjs = [
            (0..1, "0101ac020004010474657874016100"),
            (1..2, "0101ac020184ac0200016200"),
            (199..200, "0101ac02c70184ac02c601017200"),
            (0..5, "0101ac02000401047465787405616263646500"),
        ];
        for (characters, update) in of_yjs {
            assert_eq!(hexadecimal(&typed(AUTHOR, characters.clone())), update);
            let bytes = typed(AUTHOR, characters.clone());
            assert_eq!(brought(&bytes).expect("an update"), characters);
        }
    }

    #[test]
    fn updates_that_yjs_merged_bring_all_of_their_characters() {
        // Of the second, the third and the fourth character: three runs.
        let mut merged = vec![1, 3];
        merged.extend(&typed(AUTHOR, 1..2)[2..11]);
        merged.extend(&typed(AUTHOR, 2..3)[5..11]);
        merged.extend(&typed(AUTHOR, 3..4)[5..]);
        assert_eq!(hexadecimal(&merged), "0103ac020184ac0200016284ac0201016384ac0202016400");
        assert_eq!(brought(&merged).expect("an update"), 1..4);
        assert_eq!(brought(&[0, 0]).expect("an empty update"), 0..0);
    }

    #[test]
    fn what_is_no_typed_text_is_no_figure() {
        let mut deleted = typed(AUTHOR, 1..2);
        deleted[5] = AFTER | 1;
        assert!(brought(&deleted).is_err());
        assert!(brought(&typed(AUTHOR, 0..1)[..9]).is_err());
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
