//! What was removed is in no byte of the file any more.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rejoin_overwrite::{overwrite_free, rebuild, rebuild_around};

const ROWS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("rows");
const NAMES: TableDefinition<'_, &str, u64> = TableDefinition::new("names");

/// A sequence of numbers that a seed begins.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A text that says of which row it is, again and again, and of no other.
fn text(document: u64, len: u64) -> Vec<u8> {
    format!("[canary {document:05}]").into_bytes().into_iter().cycle().take(len as usize).collect()
}

fn count(path: &Path, document: u64) -> usize {
    let wanted = format!("canary {document:05}");
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(wanted.len()).filter(|bytes| *bytes == wanted.as_bytes()).count()
}

#[test]
fn what_was_removed_is_in_no_byte_of_the_file() {
    for seed in 0..40 {
        let mut numbers = Numbers(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.redb");
        let mut database = Database::create(&path).unwrap();
        let documents = 20 + numbers.below(200);
        for _ in 0..1 + numbers.below(6) {
            let transaction = database.begin_write().unwrap();
            {
                let mut rows = transaction.open_table(ROWS).unwrap();
                let mut names = transaction.open_table(NAMES).unwrap();
                for document in 0..documents {
                    // Rows come, become longer and shorter, and go, several times in a transaction.
                    for _ in 0..numbers.below(4) {
                        let at = numbers.below(4);
                        let len = [20, 300, 3_000, 40_000][numbers.below(4) as usize];
                        let text = text(document, numbers.below(len));
                        rows.insert((document, at), text.as_slice()).unwrap();
                        if numbers.below(5) == 0 {
                            rows.remove((document, numbers.below(4))).unwrap();
                        }
                    }
                    let name = format!("canary {document:05}");
                    names.insert(name.as_str(), document).unwrap();
                }
            }
            transaction.commit().unwrap();
        }
        let erased: Vec<u64> = (0..5).map(|_| numbers.below(documents)).collect();
        let transaction = database.begin_write().unwrap();
        for document in &erased {
            let mut rows = transaction.open_table(ROWS).unwrap();
            rows.retain_in((*document, 0)..(*document, 9), |_, _| false).unwrap();
            let mut names = transaction.open_table(NAMES).unwrap();
            names.remove(format!("canary {document:05}").as_str()).unwrap();
        }
        transaction.commit().unwrap();
        let transaction = database.begin_write().unwrap();
        if seed % 2 == 0 {
            rebuild(&transaction, ROWS).unwrap();
        }
        for document in erased.iter().filter(|_| seed % 2 == 1) {
            let mut rows = transaction.open_table(ROWS).unwrap();
            rebuild_around(&mut rows, (*document, 0), (*document, u64::MAX)).unwrap();
        }
        rebuild(&transaction, NAMES).unwrap();
        transaction.commit().unwrap();
        let kept = |database: &Database| -> Vec<((u64, u64), Vec<u8>)> {
            let rows = database.begin_read().unwrap().open_table(ROWS).unwrap();
            let rows = rows.iter().unwrap().map(Result::unwrap);
            rows.map(|(key, value)| (key.value(), value.value().to_vec())).collect()
        };
        let before = kept(&database);
        overwrite_free(&mut database).unwrap();
        assert_eq!(kept(&database), before);
        drop(database);
        for document in &erased {
            assert_eq!(count(&path, *document), 0, "document {document} of seed {seed}");
        }
        let other = (0..documents).find(|it| !erased.contains(it)).unwrap();
        assert!(count(&path, other) > 0, "the others are there, seed {seed}");
        assert_eq!(kept(&Database::create(&path).unwrap()), before);
    }
}

/// A store like a relay's: documents grow in many small commits, some are erased, and others grow on
/// meanwhile. In the files of the first four seeds something was left once.
#[test]
fn what_is_erased_between_other_commits_is_in_no_byte_of_the_file() {
    const OTHERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("others");
    const OWN: u64 = u64::MAX;
    for seed in [1241, 7446, 8728, 12_632].into_iter().chain(0..60) {
        let mut numbers = Numbers(seed * 7919 + 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.redb");
        let mut database = Database::create(&path).unwrap();
        let documents = 2 + numbers.below(60);
        let longest = [30, 200, 1_500, 6_000, 30_000][numbers.below(5) as usize];
        for _ in 0..1 + numbers.below(20) {
            let transaction = database.begin_write().unwrap();
            {
                let mut rows = transaction.open_table(ROWS).unwrap();
                let mut others = transaction.open_table(OTHERS).unwrap();
                for _ in 0..1 + numbers.below(10) {
                    let (document, at) = (numbers.below(documents), numbers.below(6));
                    let text = named_text(document, 20 + numbers.below(longest));
                    rows.insert((document, at), text.as_slice()).unwrap();
                    if numbers.below(3) == 0 {
                        rows.remove((document, numbers.below(6))).unwrap();
                    }
                    if numbers.below(6) == 0 {
                        let all = (document, 0)..=(document, numbers.below(6));
                        rows.retain_in(all, |_, _| false).unwrap();
                    }
                    let own = vec![1; 20 + numbers.below(80) as usize];
                    rows.insert((document, OWN), own.as_slice()).unwrap();
                    let (other, len) = (numbers.below(100), numbers.below(3_000));
                    others.insert(other, vec![7; len as usize].as_slice()).unwrap();
                }
            }
            transaction.commit().unwrap();
        }
        let mut erased = Vec::new();
        for _ in 0..1 + numbers.below(3) {
            let document = numbers.below(documents);
            erased.push(document);
            let transaction = database.begin_write().unwrap();
            {
                let mut rows = transaction.open_table(ROWS).unwrap();
                rows.retain_in((document, 0)..=(document, OWN), |_, _| false).unwrap();
                rows.insert((document, OWN), [2; 40].as_slice()).unwrap();
            }
            transaction.commit().unwrap();
            if numbers.below(3) == 0 {
                write_others(&database, &mut numbers, documents, longest, &erased);
            }
        }
        let transaction = database.begin_write().unwrap();
        {
            let mut rows = transaction.open_table(ROWS).unwrap();
            for document in &erased {
                rebuild_around(&mut rows, (*document, 0), (*document, OWN)).unwrap();
            }
        }
        transaction.commit().unwrap();
        overwrite_free(&mut database).unwrap();
        drop(database);
        let bytes = std::fs::read(&path).unwrap();
        for document in &erased {
            let name = name(*document);
            let left = bytes.windows(name.len()).filter(|bytes| *bytes == name.as_bytes()).count();
            assert_eq!(left, 0, "document {document} of seed {seed}");
        }
    }
}

fn write_others(
    database: &Database,
    numbers: &mut Numbers,
    documents: u64,
    longest: u64,
    erased: &[u64],
) {
    let transaction = database.begin_write().unwrap();
    let mut rows = transaction.open_table(ROWS).unwrap();
    for _ in 0..numbers.below(8) {
        let document = numbers.below(documents);
        if erased.contains(&document) {
            continue;
        }
        let at = numbers.below(6);
        let text = named_text(document, 20 + numbers.below(longest));
        rows.insert((document, at), text.as_slice()).unwrap();
        if numbers.below(3) == 0 {
            rows.remove((document, numbers.below(6))).unwrap();
        }
    }
    drop(rows);
    transaction.commit().unwrap();
}

/// A name that no other document has a part of.
fn name(document: u64) -> String {
    format!("{:016x}", (document + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn named_text(document: u64, len: u64) -> Vec<u8> {
    format!("[{}]", name(document)).into_bytes().into_iter().cycle().take(len as usize).collect()
}

/// A file does not grow by what is written over its free pages.
#[test]
fn a_file_is_no_longer_after_many_erasures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let mut database = Database::create(&path).unwrap();
    let fill = |database: &Database, documents: std::ops::Range<u64>| {
        let transaction = database.begin_write().unwrap();
        let mut rows = transaction.open_table(ROWS).unwrap();
        for document in documents {
            rows.insert((document, 0), text(document, 9_000).as_slice()).unwrap();
        }
        drop(rows);
        transaction.commit().unwrap();
    };
    fill(&database, 0..300);
    overwrite_free(&mut database).unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    for document in 0..20 {
        let transaction = database.begin_write().unwrap();
        transaction.open_table(ROWS).unwrap().remove((document, 0)).unwrap();
        transaction.commit().unwrap();
        let transaction = database.begin_write().unwrap();
        rebuild(&transaction, ROWS).unwrap();
        transaction.commit().unwrap();
        overwrite_free(&mut database).unwrap();
        let now = std::fs::metadata(&path).unwrap().len();
        assert!(now <= before + before / 10, "{before} bytes became {now} with erasure {document}");
    }
}
