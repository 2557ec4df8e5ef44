//! Changes with a right checksum around a content that anybody may have made: what the guard takes,
//! Automerge reads, and as the same.
//!
//! The first byte of an input says whether the change is deflated.

#![no_main]

use std::io::Write;

use automerge::Change;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use libfuzzer_sys::fuzz_target;
use rejoin_core::change::parse;
use sha2::{Digest, Sha256};

const CHANGE: u8 = 1;
const DEFLATED: u8 = 2;

fuzz_target!(|input: &[u8]| {
    let Some((kind, content)) = input.split_first() else { return };
    let chunk = if kind % 2 == 0 { sealed(content) } else { deflated(content) };
    let Ok(ours) = parse(&chunk) else { return };
    let theirs = Change::from_bytes(chunk).expect("Automerge reads what the guard takes");
    assert_eq!(ours.hash().0, theirs.hash().0);
    assert_eq!((ours.ops(), ours.max_op()), (theirs.len() as u64, theirs.max_op()));
});

/// A change chunk of Automerge's storage format: magic bytes, checksum, kind, length, content.
fn sealed(content: &[u8]) -> Vec<u8> {
    let body = body(CHANGE, content);
    [&MAGIC[..], &checksum(&body), &body].concat()
}

/// The same change deflated; its checksum is that of the other.
fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).expect("memory takes everything");
    let small = encoder.finish().expect("memory takes everything");
    [&MAGIC[..], &checksum(&body(CHANGE, content)), &body(DEFLATED, &small)].concat()
}

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

fn checksum(body: &[u8]) -> [u8; 4] {
    let hash = Sha256::digest(body);
    [hash[0], hash[1], hash[2], hash[3]]
}

fn body(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut body = vec![kind];
    let mut len = content.len();
    while len > 0x7f {
        body.push(len as u8 | 0x80);
        len >>= 7;
    }
    body.push(len as u8);
    body.extend(content);
    body
}
