//! Whole files: encrypted, decrypted, given another key, and destroyed.

use std::path::Path;

use redb::Database;
use redb::backends::FileBackend;
use rejoin_seal::{
    FileError, Key, KeyError, SealError, Sealed, change_key, decrypt, destroy, encrypt, is_sealed,
};

use super::{get, key, put};

const CANARY: &[u8] = b"gate code 4711";

fn plain(path: &Path) {
    let database = Database::create(path).unwrap();
    put(&database, (0..200).map(|row| (row, CANARY.repeat(30)))).unwrap();
}

fn file(path: &Path) -> FileBackend {
    FileBackend::new(std::fs::File::options().read(true).write(true).open(path).unwrap()).unwrap()
}

fn opened(path: &Path, key: &Key) -> Result<Database, SealError> {
    let sealed = Sealed::open(file(path), key)?;
    Ok(Database::builder().create_with_backend(sealed).unwrap())
}

fn finds(path: &Path) -> bool {
    std::fs::read(path).unwrap().windows(CANARY.len()).any(|window| window == CANARY)
}

#[test]
fn a_plain_file_becomes_an_encrypted_one_and_a_plain_one_again() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to, back] = ["plain", "sealed", "back"].map(|it| folder.path().join(it));
    plain(&from);
    encrypt(&from, &to, &key()).unwrap();
    assert!(finds(&from) && !finds(&to));
    assert!(!is_sealed(&from).unwrap() && is_sealed(&to).unwrap());
    assert_eq!(get(&opened(&to, &key()).unwrap(), 99).unwrap(), Some(CANARY.repeat(30)));
    decrypt(&to, &back, &key()).unwrap();
    let back = Database::open(&back).unwrap();
    assert_eq!(get(&back, 199).unwrap(), Some(CANARY.repeat(30)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn nothing_is_written_over_and_nothing_is_done_while_somebody_has_the_file_open() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["plain", "sealed"].map(|it| folder.path().join(it));
    plain(&from);
    let open = Database::open(&from).unwrap();
    let error = encrypt(&from, &to, &key()).unwrap_err();
    assert!(matches!(error, FileError { source: SealError::Open, .. }), "{error:?}");
    drop(open);
    encrypt(&from, &to, &key()).unwrap();
    let before = std::fs::read(&to).unwrap();
    let error = encrypt(&from, &to, &key()).unwrap_err();
    assert!(matches!(error, FileError { source: SealError::Io(_), .. }), "{error:?}");
    let error = encrypt(&to, &folder.path().join("twice"), &key()).unwrap_err();
    assert!(matches!(error, FileError { source: SealError::Sealed, .. }), "{error:?}");
    assert_eq!(std::fs::read(&to).unwrap(), before);
    let open = opened(&to, &key()).unwrap();
    for error in [
        destroy(&to).unwrap_err(),
        change_key(&to, &key(), &key()).unwrap_err(),
        decrypt(&to, &folder.path().join("back"), &key()).unwrap_err(),
    ] {
        assert!(matches!(error, FileError { source: SealError::Open, .. }), "{error:?}");
    }
    drop(open);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn another_key_takes_the_place_of_the_one_before_and_the_pages_stay() {
    let folder = tempfile::tempdir().unwrap();
    let [from, path] = ["plain", "sealed"].map(|it| folder.path().join(it));
    plain(&from);
    encrypt(&from, &path, &key()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let new = Key::passphrase("correct horse");
    change_key(&path, &key(), &new).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[8192..], before[8192..]);
    let error = opened(&path, &key()).unwrap_err();
    assert!(matches!(error, SealError::OpensWithPassphrase), "{error}");
    let error = opened(&path, &Key::passphrase("wrong horse")).unwrap_err();
    assert!(matches!(error, SealError::WrongKey), "{error}");
    assert_eq!(get(&opened(&path, &new).unwrap(), 5).unwrap(), Some(CANARY.repeat(30)));
    let error = change_key(&path, &key(), &key()).unwrap_err();
    assert!(matches!(error, FileError { source: SealError::OpensWithPassphrase, .. }));
}

#[test]
fn what_was_destroyed_opens_with_no_key_even_if_its_bytes_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let [from, path, kept] = ["plain", "sealed", "kept"].map(|it| folder.path().join(it));
    plain(&from);
    encrypt(&from, &path, &key()).unwrap();
    // A second name: what is left on the disk after the first one is gone.
    std::fs::hard_link(&path, &kept).unwrap();
    destroy(&path).unwrap();
    assert!(!path.exists());
    assert!(std::fs::metadata(&kept).unwrap().len() > 8192);
    let error = opened(&kept, &key()).unwrap_err();
    assert!(matches!(error, SealError::NotSealed), "{error}");
    assert!(!finds(&kept));
    let error = destroy(&from).unwrap_err();
    assert!(matches!(error, FileError { source: SealError::NotSealed, .. }), "{error:?}");
    assert!(from.exists());
    // One that was cut short after it had written over the keys goes on.
    destroy(&kept).unwrap();
    assert!(!kept.exists());
}

#[test]
fn keys_and_passphrases_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let made = Key::make_file(&at("made")).unwrap();
    assert!(matches!(Key::make_file(&at("made")), Err(KeyError::Io { .. })));
    let read = Key::file(&at("made")).unwrap();
    std::fs::write(at("raw"), [7; 32]).unwrap();
    std::fs::write(at("hex"), "07".repeat(32) + "\n").unwrap();
    let [raw, hex] = ["raw", "hex"].map(|name| Key::file(&at(name)).unwrap());
    std::fs::write(at("words"), "correct horse \n").unwrap();
    let words = Key::passphrase_file(&at("words")).unwrap();
    for (name, sealed_with, opens) in [
        ("1", &made, &read),
        ("2", &raw, &hex),
        ("3", &hex, &key()),
        ("4", &words, &Key::passphrase("correct horse ")),
    ] {
        std::fs::write(at(name), b"").unwrap();
        let sealed = Sealed::create(file(&at(name)), sealed_with).unwrap();
        drop(Database::builder().create_with_backend(sealed).unwrap());
        assert!(Sealed::open(file(&at(name)), opens).is_ok(), "{name}");
    }
    for (name, bytes) in
        [("short", "0707"), ("words", "correct horse"), ("odd", &"0g".repeat(32)[..])]
    {
        std::fs::write(at(name), bytes).unwrap();
        let error = Key::file(&at(name)).unwrap_err();
        assert!(matches!(error, KeyError::NoKey { .. }), "{error}");
        assert!(!error.to_string().contains("horse"), "{error}");
    }
    std::fs::write(at("empty"), "\n").unwrap();
    assert!(matches!(Key::passphrase_file(&at("empty")), Err(KeyError::NoPassphrase { .. })));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(at("made")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
