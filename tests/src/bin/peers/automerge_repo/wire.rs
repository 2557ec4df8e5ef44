//! automerge-repo's frames, protocol version 1: one CBOR map in each binary WebSocket message.

use anyhow::{Context, Result};
use automerge::ChangeHash;
use automerge::sync::{BloomFilter, ChunkList, Have, Message, MessageFlags, MessageVersion};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

/// What a frame says, as far as a client of a relay has to know it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) document: &'a str,
    pub(crate) data: &'a [u8],
    pub(crate) complaint: &'a str,
}

impl<'a> Frame<'a> {
    /// Reads a frame. Keys it does not know are skipped.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self> {
        Self::read(&mut Decoder::new(bytes)).context("the server sent what is no frame")
    }

    fn read(decoder: &mut Decoder<'a>) -> Result<Self, minicbor::decode::Error> {
        let mut frame = Self::default();
        let entries = decoder.map()?;
        for _ in 0..entries.unwrap_or(u64::MAX) {
            if entries.is_none() && decoder.datatype()? == Type::Break {
                break;
            }
            match decoder.str()? {
                "type" => frame.kind = decoder.str()?,
                "senderId" => frame.sender = decoder.str()?,
                "documentId" => frame.document = decoder.str()?,
                "data" => frame.data = decoder.bytes()?,
                "message" => frame.complaint = decoder.str()?,
                _ => decoder.skip()?,
            }
        }
        Ok(frame)
    }

    /// The sync message in it.
    pub(crate) fn message(&self) -> Result<Message> {
        Message::decode(self.data).context("the server sent what is no sync message")
    }
}

/// The first frame of a client.
pub(crate) fn join(me: &str) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(128));
    let encoded = (|| {
        encoder.map(4)?.str("type")?.str("join")?.str("senderId")?.str(me)?;
        encoder.str("peerMetadata")?.map(1)?.str("isEphemeral")?.bool(true)?;
        encoder.str("supportedProtocolVersions")?.array(1)?.str("1")?.ok()
    })();
    encoded.expect("memory takes everything");
    encoder.into_writer()
}

/// A frame about a document, `sync` or `request`.
pub(crate) fn about(kind: &str, me: &str, to: &str, document: &str, data: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(data.len() + 192));
    let encoded = (|| {
        encoder.map(5)?.str("type")?.str(kind)?.str("senderId")?.str(me)?;
        encoder.str("targetId")?.str(to)?.str("documentId")?.str(document)?;
        encoder.str("data")?.bytes(data)?.ok()
    })();
    encoded.expect("memory takes everything");
    encoder.into_writer()
}

/// A sync message of a client that has `heads`: both sides have what led to `shared`, and it alone
/// has `own` since.
pub(crate) fn message(
    heads: Vec<ChangeHash>,
    need: Vec<ChangeHash>,
    shared: Vec<ChangeHash>,
    own: &[ChangeHash],
    changes: Vec<Vec<u8>>,
) -> Vec<u8> {
    let mut flags = MessageFlags::default();
    flags.set(MessageFlags::SUPPORTS_SYNC_RESET);
    let have = Have { last_sync: shared, bloom: BloomFilter::from_hashes(own.iter()) };
    let changes = ChunkList::from(changes);
    let version = MessageVersion::V1;
    Message { heads, need, have: vec![have], changes, flags: Some(flags), version }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let bytes = about("sync", "me", "you", "4Nt", b"data");
        let frame = Frame::decode(&bytes).expect("our own frame");
        let expected =
            Frame { kind: "sync", sender: "me", document: "4Nt", data: b"data", complaint: "" };
        assert_eq!(frame, expected);
    }

    #[test]
    fn what_the_javascript_encoder_writes_is_read() {
        // A map whose header is two bytes longer than it must be, with an `undefined` in it.
        let mut bytes = vec![0xb9, 0x00, 0x02, 0x64];
        bytes.extend(b"type\x64peer\x63add\xf7");
        assert_eq!(Frame::decode(&bytes).expect("a frame").kind, "peer");
    }
}
