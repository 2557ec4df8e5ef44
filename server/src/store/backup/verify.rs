//! A look at everything in a backup: it is restored beside, and each change, head and digest is
//! computed anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase};
use rejoin_core::{HeadsHash, SetDigest};

use super::{BackupError, Restored, TakeApart, restore};
use crate::store::tables::{DIGESTS, DigestRow, LATEST, LatestRow};
use crate::store::{ChangeStore, Scrub, StoreError};

/// The result of a look at backups.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// What a restore would bring.
    pub restored: Restored,
    /// Everything that is wrong, in words.
    pub findings: Vec<String>,
}

/// Restores backups into the folder `scratch` and looks at everything in them: each change has its
/// hash, each document the heads it had, and each collection its digest. The folder is left as it
/// was.
///
/// # Errors
/// As [`restore`].
pub fn verify(
    whole: &Path,
    more: &[PathBuf],
    scratch: &Path,
    take_apart: TakeApart<'_>,
    random: impl FnMut() -> [u8; 16],
    progress: &mut dyn FnMut(u64),
) -> Result<Verified, BackupError> {
    let file = scratch.join("verified.redb");
    let restored = restore(whole, more, &file, None, take_apart, random, progress)?;
    let looked = look(&file);
    // It was only made to be looked at.
    let _ = std::fs::remove_file(&file);
    let mut findings = restored.partly.clone();
    findings.extend(looked?);
    Ok(Verified { restored, findings })
}

fn look(file: &Path) -> Result<Vec<String>, BackupError> {
    let database = Database::open(file).map_err(|error| BackupError::Folder {
        path: file.to_owned(),
        source: std::io::Error::other(error),
    })?;
    let mut store = ChangeStore::open(database, GRAPH_BYTES_MAX, || [0; 16])?;
    let mut findings = Vec::new();
    let mut scrub = Scrub::default();
    while !store.scrub(&mut scrub, u64::MAX, SCRUB_BYTES)?.is_end {}
    while let Some((number, why)) = store.take_suspect() {
        findings.push(format!("document number {number}: {why}"));
    }
    check_digests(&mut store, &mut findings)?;
    Ok(findings)
}

/// Computes the heads of every document and the digests of collections from the changes.
fn check_digests(store: &mut ChangeStore, findings: &mut Vec<String>) -> Result<(), StoreError> {
    for space in store.spaces()? {
        let Some(number) = store.space_number(&space)? else { continue };
        let mut digests: BTreeMap<u32, DigestRow> = BTreeMap::new();
        let mut after = 0;
        loop {
            let page = latest_page(store, number, after)?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            for (_, row) in page {
                let document = row.document;
                let heads = match store.known_heads(&space, &document) {
                    Ok(Some(heads)) => heads,
                    Ok(None) => {
                        findings.push(format!("{document} of space {space} is not there"));
                        continue;
                    }
                    Err(error) if error.is_confined() => {
                        findings.push(format!("{document} of space {space}: {error}"));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if heads.short() != row.heads {
                    findings.push(format!("{document} of space {space} has other heads"));
                }
                let empty = DigestRow { digest: SetDigest::default(), documents: 0 };
                let digest = digests.entry(row.collection).or_insert(empty);
                digest.digest.insert(&document, &heads);
                digest.documents += u64::from(heads != HeadsHash::ERASED);
                store.is_batch_full();
            }
        }
        let table = store.database.begin_read()?.open_table(DIGESTS)?;
        for entry in table.range((number, 0)..=(number, u32::MAX))? {
            let (key, stored) = entry?;
            let collection = key.value().1;
            let found = digests.remove(&collection).unwrap_or_default();
            if found != DigestRow::decode(stored.value()) {
                findings
                    .push(format!("collection number {collection} of {space} has another digest"));
            }
        }
        for collection in digests.keys() {
            findings.push(format!("collection number {collection} of {space} has no digest"));
        }
    }
    Ok(())
}

fn latest_page(
    store: &ChangeStore,
    space: u32,
    after: u64,
) -> Result<Vec<(u64, LatestRow)>, StoreError> {
    let table = store.database.begin_read()?.open_table(LATEST)?;
    let mut page = Vec::new();
    for entry in table.range((space, after + 1)..=(space, u64::MAX))?.take(PAGE_DOCUMENTS) {
        let (key, row) = entry?;
        page.push((key.value().1, LatestRow::decode(row.value())));
    }
    Ok(page)
}

/// Bytes that are looked at in one step.
const SCRUB_BYTES: u64 = 16 << 20;

/// Documents whose numbers are in memory at once.
const PAGE_DOCUMENTS: usize = 1024;

/// Bytes of change graphs in memory.
const GRAPH_BYTES_MAX: usize = 64 << 20;
