//! An encrypted file does as an array of bytes does.

use std::collections::BTreeSet;

use proptest::prelude::*;
use redb::StorageBackend;
use rejoin_seal::Sealed;

use super::disk::Disk;
use super::key;

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    SetLen(u64),
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let offset = || prop_oneof![(0_u64..12).prop_map(|it| it * SECTOR), 0..12 * SECTOR];
    let len = || prop_oneof![(1_usize..5).prop_map(|it| it * 4096), 0_usize..9000];
    prop_oneof![
        4 => (offset(), len(), any::<u8>())
            .prop_map(|(at, len, fill)| Step::Write(at, (0..len).map(|it| (it as u8) ^ fill).collect())),
        4 => (offset(), len()).prop_map(|(at, len)| Step::Read(at, len)),
        2 => (0_u64..12).prop_map(|it| Step::SetLen(it * SECTOR)),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_read_is_what_was_written(steps in prop::collection::vec(step(), 1..60)) {
        let disk = Disk::default();
        let mut sealed = Sealed::create(disk.clone(), &key()).unwrap();
        let mut model = Vec::new();
        let mut written = BTreeSet::new();
        for step in steps {
            match step {
                Step::Write(at, bytes) => {
                    let end = at as usize + bytes.len();
                    let done = sealed.write(at, &bytes);
                    prop_assert_eq!(done.is_ok(), end <= model.len());
                    if done.is_ok() && !bytes.is_empty() {
                        model[at as usize..end].copy_from_slice(&bytes);
                        written.extend(at / SECTOR..=(end as u64 - 1) / SECTOR);
                    }
                }
                Step::Read(at, len) => {
                    let mut out = vec![0; len];
                    let end = at as usize + len;
                    let read = sealed.read(at, &mut out);
                    prop_assert_eq!(read.is_ok(), end <= model.len());
                    if read.is_ok() && len > 0 {
                        let mut sectors = at / SECTOR..=(end as u64 - 1) / SECTOR;
                        // Of what was never written nobody can say that it was not written over.
                        if sectors.all(|it| it == 0 || written.contains(&it)) {
                            prop_assert_eq!(&out[..], &model[at as usize..end]);
                        } else {
                            let poison = out.iter().skip(8).all(|byte| *byte == 0xff);
                            prop_assert!(poison);
                        }
                    }
                }
                Step::SetLen(len) => {
                    sealed.set_len(len).unwrap();
                    model.resize(len as usize, 0);
                    written.retain(|sector| sector * SECTOR < len);
                }
                Step::Sync => sealed.sync_data().unwrap(),
                Step::Reopen => {
                    // The first sector is only found again once it was written.
                    if written.contains(&0) {
                        sealed = Sealed::open(disk.clone(), &key()).unwrap();
                    }
                }
            }
            prop_assert_eq!(sealed.len().unwrap(), model.len() as u64);
        }
    }
}

#[test]
fn a_length_between_two_pages_is_refused() {
    let sealed = Sealed::create(Disk::default(), &key()).unwrap();
    assert!(sealed.set_len(5000).is_err());
}

const SECTOR: u64 = 4096;
