//! Frames between replicas and relays, as anybody may send them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rejoin_core::wire::Frame;

fuzz_target!(|message: &[u8]| {
    let Ok(Some(frame)) = Frame::decode(message) else { return };
    let written = frame.encode();
    assert_eq!(Frame::decode(&written).ok().flatten().as_ref(), Some(&frame));
});
