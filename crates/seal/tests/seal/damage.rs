//! Pages that were altered, moved or cut off, and what the file gives away.

use std::collections::BTreeSet;

use redb::{Database, ReadableDatabase, ReadableTable};
use rejoin_seal::{Key, SealError, Sealed};

use super::disk::Disk;
use super::{NOTES, get, key, open, put};

const CANARY: &[u8] = b"gate code 4711";

fn value(row: u64) -> Vec<u8> {
    [CANARY, format!(" of row {row}, ").as_bytes()].concat().repeat(60)
}

/// A database of many pages, some of which are of more than one sector.
fn made() -> Disk {
    let disk = Disk::default();
    let sealed = Sealed::create(disk.clone(), &key()).unwrap();
    let database = Database::builder().create_with_backend(sealed).unwrap();
    put(&database, (0..ROWS).map(|row| (row, value(row)))).unwrap();
    put(&database, [(ROWS, vec![7; 50_000])]).unwrap();
    drop(database);
    disk
}

fn finds(bytes: &[u8], canary: &[u8]) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary)
}

#[test]
fn nothing_that_was_written_can_be_found_in_the_file() {
    let bytes = made().bytes();
    for canary in [CANARY, b"notes", b"redb\x1a", &[7; 16], &[0xff; 16]] {
        assert!(!finds(&bytes[8192..], canary), "{canary:?}");
    }
    // Zeros are where nothing was written yet. A page that was written has none that last.
    assert!(!finds(&bytes, CANARY) && !finds(&bytes, b"notes"));
}

#[test]
fn equal_pages_do_not_look_equal_and_no_page_looks_twice_the_same() {
    let disk = made();
    let before = disk.bytes();
    // The same bytes are written once more, by another opening.
    put(&open(disk.clone()).unwrap(), (0..ROWS).map(|row| (row, value(row)))).unwrap();
    let both = [before, disk.bytes()];
    let written: BTreeSet<&[u8]> = both
        .iter()
        .flat_map(|bytes| bytes[DATA_AT..].chunks_exact(SEALED))
        .filter(|sealed| sealed.iter().any(|byte| *byte != 0))
        .collect();
    let nonces: BTreeSet<&[u8]> = written.iter().map(|sealed| &sealed[4096 + 16..]).collect();
    let begins: BTreeSet<&[u8]> = written.iter().map(|sealed| &sealed[..64]).collect();
    assert_eq!((nonces.len(), begins.len()), (written.len(), written.len()));
}

#[test]
fn an_altered_page_costs_its_rows_and_no_others() {
    let disk = made();
    let whole = disk.bytes();
    let sectors = (whole.len() - DATA_AT) / SEALED;
    let mut costs = 0;
    for sector in 0..sectors {
        for at in [0, 1, 2000, 4095, 4096, 4111, 4112, 4130, 4139] {
            let disk = Disk::holding(whole.clone());
            disk.alter(|bytes| bytes[DATA_AT + sector * SEALED + at] ^= 1);
            let (wrong, lost) = look(&disk);
            assert_eq!(wrong, 0, "sector {sector}, byte {at}: another value was read");
            costs += lost;
        }
    }
    assert!(costs > 0);
}

#[test]
fn pages_that_were_exchanged_or_made_zeros_are_damaged() {
    let whole = made().bytes();
    let sectors = (whole.len() - DATA_AT) / SEALED;
    for sector in 1..sectors {
        let exchanged = Disk::holding(whole.clone());
        exchanged.alter(|bytes| {
            let (before, after) = bytes[DATA_AT..].split_at_mut(sector * SEALED);
            before[(sector - 1) * SEALED..].swap_with_slice(&mut after[..SEALED]);
        });
        assert_eq!(look(&exchanged).0, 0, "{sector}");
        let zeros = Disk::holding(whole.clone());
        zeros.alter(|bytes| bytes[DATA_AT + sector * SEALED..][..SEALED].fill(0));
        assert_eq!(look(&zeros).0, 0, "{sector}");
    }
}

/// Reads every row. Returns how many have a value that was never written, and how many cannot be
/// read. None may be missing without a word.
fn look(disk: &Disk) -> (usize, usize) {
    let Ok(database) = open(disk.clone()) else { return (0, ROWS as usize) };
    let (mut wrong, mut lost) = (0, 0);
    for row in 0..=ROWS {
        let expected = if row == ROWS { vec![7; 50_000] } else { value(row) };
        match get(&database, row) {
            Ok(Some(value)) if value == expected => {}
            Ok(_) => wrong += 1,
            Err(redb::Error::Corrupted(_)) => lost += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    // The same in order: it ends with an error, or has everything.
    let walk = || -> Result<u64, redb::Error> {
        let table = database.begin_read()?.open_table(NOTES)?;
        let mut rows = 0;
        for row in table.iter()? {
            row?;
            rows += 1;
        }
        Ok(rows)
    };
    if let Ok(rows) = walk() {
        assert_eq!((rows, lost), (ROWS + 1, 0));
    }
    // Writing beside the damage does not make any of it look sound.
    let _ = put(&database, [(ROWS + 1, b"more".to_vec())]);
    (wrong, lost)
}

#[test]
fn a_file_that_was_cut_off_anywhere_opens_with_an_error_or_without_the_last_pages() {
    let whole = made().bytes();
    for len in (0..whole.len()).step_by(1111).chain(DATA_AT - 2..DATA_AT + 3) {
        let disk = Disk::holding(whole[..len].to_vec());
        match Sealed::open(disk.clone(), &key()) {
            Ok(_) => assert_eq!(look(&disk).0, 0, "{len}"),
            Err(error) => assert!(len < DATA_AT, "{len}: {error}"),
        }
    }
}

#[test]
fn the_beginning_may_be_damaged_in_one_place() {
    let whole = made().bytes();
    for at in (0..8192).step_by(16) {
        let disk = Disk::holding(whole.clone());
        disk.alter(|bytes| bytes[at] ^= 0x40);
        assert_eq!(look(&disk), (0, 0), "header, byte {at}");
    }
    for both in [[10, 4106], [120, 4230]] {
        let disk = Disk::holding(whole.clone());
        disk.alter(|bytes| both.into_iter().for_each(|at| bytes[at] ^= 1));
        let error = Sealed::open(disk, &key()).unwrap_err();
        let is_told = matches!(error, SealError::Damaged(_) | SealError::NotSealed);
        assert!(is_told, "{error}");
    }
    let disk = Disk::holding(whole.clone());
    disk.alter(|bytes| [8300, 16_500].into_iter().for_each(|at| bytes[at] ^= 1));
    let error = Sealed::open(disk.clone(), &key()).unwrap_err();
    assert!(matches!(error, SealError::Damaged(_)), "{error}");
    assert!(Sealed::open_damaged(disk, &key()).is_ok());
}

#[test]
fn another_key_opens_nothing_and_nothing_is_said_of_the_right_one() {
    let disk = made();
    let before = disk.bytes();
    let error = Sealed::open(disk.clone(), &Key::bytes([8; 32])).unwrap_err();
    assert!(matches!(error, SealError::WrongKey), "{error}");
    let error = Sealed::open(disk.clone(), &Key::passphrase("gate")).unwrap_err();
    assert!(matches!(error, SealError::OpensWithKey), "{error}");
    assert_eq!(disk.bytes(), before);
    let sealed = Sealed::open(disk, &key()).unwrap();
    assert_eq!(format!("{sealed:?}"), "Sealed { file: Disk, .. }");
    let plain = Sealed::open(Disk::holding(vec![1; 20_000]), &key()).unwrap_err();
    assert!(matches!(plain, SealError::NotSealed), "{plain}");
}

const ROWS: u64 = 300;

/// The layout that `Sealed` documents.
const DATA_AT: usize = 2 * 4096 + 2 * 8192;
const SEALED: usize = 4096 + 44;
