//! Backups of a store, and what is restored from them.

use std::fs;
use std::path::{Path, PathBuf};

use rejoin_core::SetDigest;
use rejoin_relay::store::backup::{
    BackupError, Header, check, restore, verify, write_more, write_whole,
};
use rejoin_relay::{
    CompactionPolicy, Relay, RelayOptions, TailPolicy, compact_in_process, take_apart_in_process,
};

use crate::harness::{Author, World, document, noise, space};

/// Folds early, and leaves nothing beside a snapshot.
fn options() -> RelayOptions {
    let mut policy = CompactionPolicy::default();
    (policy.changes_min, policy.quiet_ms) = (10, 0);
    policy.tail = TailPolicy { away_ms_max: 0, bytes_max: 0 };
    let mut options = RelayOptions::default();
    options.compaction = Some(policy);
    options
}

fn fold(world: &mut World) {
    while let Some(input) = world.relay.poll_compaction() {
        world.relay.handle_compacted(compact_in_process(&input));
        world.turn();
    }
}

fn whole(world: &World, id: u8, to: &Path) -> Header {
    let moment = world.relay.store().moment().unwrap();
    let file = fs::File::create(to).unwrap();
    write_whole(&moment, [id; 16], 1000, file, &mut |_| {}).unwrap()
}

fn more(world: &World, before: &Header, id: u8, to: &Path) -> Option<Header> {
    let moment = world.relay.store().moment().unwrap();
    let written = write_more(&moment, before, [id; 16], 2000, || fs::File::create(to));
    written.unwrap().map(|(header, _)| header)
}

fn apart(snapshot: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    take_apart_in_process(snapshot).map_err(|error| error.to_string())
}

fn digests(relay: &mut Relay) -> Vec<(SetDigest, u64)> {
    let digests = relay.store_mut().digests(&space()).unwrap();
    digests.into_iter().map(|digest| (digest.digest, digest.documents)).collect()
}

/// The relay of a restored file.
fn reopened(file: &Path) -> Relay {
    let database = redb::Database::open(file).unwrap();
    Relay::open(database, RelayOptions::default(), || [9; 16]).unwrap()
}

/// A relay with short and long changes, folded and not, in several documents.
fn busy() -> (World, Vec<Author>) {
    let mut world = World::with(options());
    let mut alice = world.connect(None, false);
    let mut authors: Vec<_> = (1..=5).map(Author::new).collect();
    for (n, author) in (1..).zip(&mut authors) {
        let mut changes = author.puts(usize::from(n) * 6);
        changes.push(author.put("long", &noise(n.into(), usize::from(n) * 3000)));
        alice.push(n.into(), document(n), changes);
    }
    world.drive(&mut [&mut alice]);
    fold(&mut world);
    assert!(world.relay.counters().compactions > 2);
    world.disconnect(&alice);
    (world, authors)
}

#[test]
fn what_is_restored_is_what_was_there_and_another_lifetime() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (mut world, mut authors) = busy();
    let first = whole(&world, 1, &path("1"));
    // The same documents go on, are folded again, and new ones come.
    let mut bob = world.connect(None, true);
    bob.push(1, document(1), authors[0].puts(30));
    bob.push(2, document(5), authors[4].puts(1));
    let mut ninth = Author::new(9);
    bob.push(3, document(9), ninth.puts(3));
    world.drive(&mut [&mut bob]);
    fold(&mut world);
    let second = more(&world, &first, 2, &path("2")).expect("there is more");
    bob.push(4, document(9), ninth.puts(1));
    world.drive(&mut [&mut bob]);
    let third = more(&world, &second, 3, &path("3")).expect("there is more");
    assert!(more(&world, &third, 4, &path("4")).is_none(), "nothing came since");
    assert!(!path("4").exists());

    let epoch = world.relay.store().space(&space()).unwrap().epoch;
    let parts = [path("2"), path("3")];
    let restored =
        restore(&path("1"), &parts, &path("new"), None, &apart, || [7; 16], &mut |_| {}).unwrap();
    assert_eq!((restored.followed, restored.documents), (2, 6));
    assert_eq!(restored.header, third);
    let mut relay = reopened(&path("new"));
    assert_eq!(digests(&mut relay), digests(&mut world.relay));
    assert_ne!(relay.store().space(&space()).unwrap().epoch, epoch);
    let verified =
        verify(&path("1"), &parts, folder.path(), &apart, || [7; 16], &mut |_| {}).unwrap();
    assert_eq!(verified.findings, Vec::<String>::new());
    assert!(!path("verified.redb").exists());

    // A replica with a mark of the old store compares, and brings what the backup lacks.
    let alone =
        restore(&path("1"), &[], &path("old"), None, &apart, || [8; 16], &mut |_| {}).unwrap();
    assert_eq!(alone.documents, 5);
    let mut world_again = World::of(reopened(&path("old")));
    assert_eq!(bob.cursor.map(|cursor| cursor.epoch), Some(epoch));
    let mut back = world_again.connect(bob.cursor, true);
    world_again.drive(&mut [&mut back]);
    let start = back.events.iter().find_map(|event| match event {
        rejoin_core::session::ReplicaEvent::Welcomed { spaces, .. } => Some(spaces[0].start),
        _ => None,
    });
    assert_eq!(start, Some(rejoin_core::wire::Start::Now), "nothing of its mark is trusted");
}

#[test]
fn a_backup_that_is_not_as_it_was_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (world, _) = busy();
    whole(&world, 1, &path("sound"));
    let sound = fs::read(path("sound")).unwrap();
    check(&path("sound")).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        let bad = path("bad");
        fs::write(&bad, bytes).unwrap();
        let error = check(&bad).expect_err(what);
        assert!(
            restore(&bad, &[], &path("new"), None, &apart, || [7; 16], &mut |_| {}).is_err(),
            "{what}"
        );
        let left = |name: &str| path(name).exists();
        assert!(!left("new") && !left("new.redb.restoring"), "{what} leaves nothing");
        error
    };
    for length in (0..sound.len()).step_by(997) {
        let error = refused(&sound[..length], &format!("cut at {length}"));
        assert!(
            matches!(error, BackupError::CutShort { .. } | BackupError::NoBackup),
            "{length}: {error}"
        );
    }
    for at in (0..sound.len()).step_by(1499) {
        let mut altered = sound.clone();
        altered[at] ^= 1;
        refused(&altered, &format!("altered at {at}"));
    }
    let error = refused(&[sound.as_slice(), b"x"].concat(), "with more behind it");
    assert!(matches!(error, BackupError::Altered));
    let mut later = sound.clone();
    later[8] = 2;
    assert!(refused(&later, "of a later version").to_string().contains("update the program"));
    assert!(matches!(refused(b"not a backup", "a text"), BackupError::NoBackup));
}

#[test]
fn a_gap_between_backups_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (mut world, mut authors) = busy();
    let first = whole(&world, 1, &path("1"));
    let mut headers = vec![first];
    for n in 2..=3_u8 {
        let mut alice = world.connect(None, true);
        alice.push(1, document(1), authors[0].puts(2));
        world.drive(&mut [&mut alice]);
        world.disconnect(&alice);
        let before = headers.last().unwrap();
        headers.push(more(&world, before, n, &path(&n.to_string())).unwrap());
    }
    let gap =
        restore(&path("1"), &[path("3")], &path("new"), None, &apart, || [7; 16], &mut |_| {});
    assert!(matches!(gap, Err(BackupError::Gap { .. })), "{gap:?}");
    let headless = restore(&path("2"), &[], &path("new"), None, &apart, || [7; 16], &mut |_| {});
    assert!(matches!(headless, Err(BackupError::Gap { .. })), "{headless:?}");
    assert!(!path("new").exists());
    let there = path("there");
    fs::write(&there, b"a store").unwrap();
    let kept = restore(&path("1"), &[], &there, None, &apart, || [7; 16], &mut |_| {});
    assert!(matches!(kept, Err(BackupError::Exists { .. })));
    assert_eq!(fs::read(&there).unwrap(), b"a store");
}

#[test]
fn a_folder_has_chains_and_forgets_those_that_are_old() {
    use rejoin_relay::store::backup::{chains, prune, write_into};
    let folder = tempfile::tempdir().unwrap();
    let (mut world, mut authors) = busy();
    let mut last: Option<Header> = None;
    for n in 0..6_u8 {
        let mut alice = world.connect(None, true);
        alice.push(1, document(1), authors[0].puts(1));
        world.drive(&mut [&mut alice]);
        world.disconnect(&alice);
        let moment = world.relay.store().moment().unwrap();
        // A whole one after every third.
        let before = last.as_ref().filter(|_| n % 3 != 0);
        let unix_ms = 1_800_000_000_000 + u64::from(n) * 60_000;
        let written = write_into(folder.path(), &moment, before, [n + 1; 16], unix_ms).unwrap();
        last = written.map(|(header, _)| header);
    }
    let relay = last.as_ref().unwrap().relay;
    let found = chains(folder.path()).unwrap().chains;
    assert_eq!(found.iter().map(|chain| chain.files.len()).collect::<Vec<_>>(), [3, 3]);
    assert!(found.iter().flat_map(|chain| &chain.files).all(|file| check(file).is_ok()));
    let until = found[0].clone().until(1_800_000_000_000 + 60_000).unwrap();
    assert_eq!(until.files.len(), 2);
    assert!(found[1].clone().until(1_800_000_000_000).is_none());
    // A file that is no backup is none of its business.
    fs::write(folder.path().join("notes.backup"), "by hand").unwrap();
    prune(folder.path(), &relay, 1_800_000_000_000 + 3 * 60_000).unwrap();
    assert_eq!(chains(folder.path()).unwrap().chains.len(), 2, "the next one began just then");
    prune(folder.path(), &relay, u64::MAX).unwrap();
    let left = chains(folder.path()).unwrap();
    assert_eq!(left.chains.len(), 1, "the last one stays");
    assert_eq!(left.loose.len(), 1, "a text is no backup");
    prune(folder.path(), &[0; 16], u64::MAX).unwrap();
    assert_eq!(chains(folder.path()).unwrap(), left, "another relay's are left alone");
    fs::remove_file(&left.chains[0].files[1]).unwrap();
    let gap = chains(folder.path()).unwrap();
    assert_eq!((gap.chains[0].files.len(), gap.loose.len()), (1, 2), "what follows a gap is told");
    let names: Vec<PathBuf> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}
