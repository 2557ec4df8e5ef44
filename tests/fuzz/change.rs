//! Changes with a right checksum around a content that anybody may have made: what the guard takes,
//! Automerge reads, and as the same.

#![no_main]

use automerge::Change;
use libfuzzer_sys::fuzz_target;
use rejoin_core::change::parse;
use sha2::{Digest, Sha256};

fuzz_target!(|content: &[u8]| {
    let chunk = sealed(content);
    let Ok(ours) = parse(&chunk) else { return };
    let theirs = Change::from_bytes(chunk).expect("Automerge reads what the guard takes");
    assert_eq!(ours.hash().0, theirs.hash().0);
    assert_eq!((ours.ops(), ours.max_op()), (theirs.len() as u64, theirs.max_op()));
});

/// A change chunk of Automerge's storage format: magic bytes, checksum, kind, length, content.
fn sealed(content: &[u8]) -> Vec<u8> {
    let mut hashed = vec![1];
    let mut len = content.len();
    while len > 0x7f {
        hashed.push(len as u8 | 0x80);
        len >>= 7;
    }
    hashed.push(len as u8);
    hashed.extend(content);
    let hash = Sha256::digest(&hashed);
    [&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &hashed].concat()
}
