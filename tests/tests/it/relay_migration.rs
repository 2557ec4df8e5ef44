//! A relay's file of the version before is taken over whole, or not at all: whatever happens to the
//! process, the machine or the disk at any operation.

use rejoin_core::SpaceName;
use rejoin_core::wire::CollectionDigest;
use rejoin_relay::store::{ChangeStore, LogPage};
use rejoin_tests::migration::Migration;

type Contents = Vec<(Vec<CollectionDigest>, LogPage)>;

const SPACES: [&str; 3] = ["acme", "harbour", "solo"];

/// The fixture of the relay's own tests, which say more of what is in it.
fn migration() -> Migration<Contents> {
    let file = include_bytes!("../../../server/tests/fixtures/relay-1.redb.deflate");
    Migration::new(file, |database| Ok(contents(ChangeStore::open(database, 1 << 20, || [0; 16])?)))
}

#[test]
fn whatever_happens_at_any_operation_leaves_the_old_file_or_the_new_one() {
    migration().strike_everywhere();
}

/// Everything sessions are told of the spaces.
fn contents(mut store: ChangeStore) -> Contents {
    let relay = store.relay();
    assert_ne!(relay.0, [0; 16], "it is another relay");
    let of_space = |space| {
        let space = SpaceName::new(space).expect("it is a name");
        let digests = store.digests(&space).expect("the digests are there");
        let page = store.log_page(&space, 0, u64::MAX, usize::MAX, usize::MAX);
        (digests, page.expect("the log is there"))
    };
    SPACES.map(of_space).into()
}
