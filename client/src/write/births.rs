//! The births an edit needs.

use automerge::{Automerge, ChangeHash as Hash, ObjId};
use rejoin_core::change::{Birth, ContainerKind, ObjectId, genesis_actor, genesis_hash};
use rejoin_core::{ActorId, ChangeHash, DocumentId};

use super::tree::Object;

/// The births of one edit, parents before what is born in them.
#[derive(Debug)]
pub(super) struct Births<'a> {
    doc: &'a Automerge,
    document: DocumentId,
    base: Option<&'a [Hash]>,
    /// Searched for when something is first born in the root.
    genesis: Option<Option<ChangeHash>>,
    births: Vec<Birth>,
}

/// The change that made a container, as far as a birth in it needs it.
struct Maker {
    object: ObjectId,
    hash: ChangeHash,
    max_op: u64,
}

impl<'a> Births<'a> {
    pub(super) fn new(doc: &'a Automerge, document: DocumentId, base: Option<&'a [Hash]>) -> Self {
        Self { doc, document, base, genesis: None, births: Vec::new() }
    }

    /// Notes the birth of `kind` at `key` of a map, and returns its number.
    ///
    /// Nothing if it has to be made in the ordinary way: its map is made by this edit, too, or the
    /// document has no genesis, or the birth is there already and what it made is not. Somebody
    /// deleted that with another program; the same birth brings nothing back.
    pub(super) fn add(&mut self, parent: &Object, key: &str, kind: ContainerKind) -> Option<usize> {
        let maker = self.maker(parent)?;
        let birth = Birth {
            document: self.document,
            parent: maker.object,
            key: key.to_owned(),
            kind,
            maker: maker.hash,
            maker_max_op: maker.max_op,
        };
        if self.base_has(Hash(birth.hash().0)) {
            return None;
        }
        self.births.push(birth);
        Some(self.births.len() - 1)
    }

    pub(super) fn into_births(self) -> Vec<Birth> {
        self.births
    }

    fn maker(&mut self, parent: &Object) -> Option<Maker> {
        match parent {
            Object::Made => None,
            Object::Known(ObjId::Root) => {
                let hash = self.genesis()?;
                Some(Maker { object: ObjectId::Root, hash, max_op: 0 })
            }
            Object::Known(id @ ObjId::Id(counter, actor, _)) => {
                let hash = self.doc.hash_for_opid(id)?;
                let max_op = self.doc.get_change_meta_by_hash(&hash)?.max_op;
                let actor = ActorId(actor.to_bytes().to_vec());
                let object = ObjectId::Op { counter: *counter, actor };
                Some(Maker { object, hash: ChangeHash(hash.0), max_op })
            }
            Object::Born(number) => {
                let birth = &self.births[*number];
                let (object, hash) = (birth.object(), birth.hash());
                Some(Maker { object, hash, max_op: birth.start_op() })
            }
        }
    }

    fn genesis(&mut self) -> Option<ChangeHash> {
        if self.genesis.is_none() {
            self.genesis = Some(self.find_genesis());
        }
        self.genesis.flatten()
    }

    /// A genesis states the natural key, which is not known here; its actor is.
    fn find_genesis(&self) -> Option<ChangeHash> {
        let keyless = genesis_hash(&self.document, None);
        if self.doc.get_change_meta_by_hash(&Hash(keyless.0)).is_some() {
            return Some(keyless);
        }
        let actor = genesis_actor(&self.document);
        let changes = self.doc.get_changes_meta(&[]);
        let genesis = changes.iter().find(|change| change.actor.to_bytes() == actor.0)?;
        Some(ChangeHash(genesis.hash.0))
    }

    /// Whether a change is among what the editor saw.
    fn base_has(&self, hash: Hash) -> bool {
        self.doc.get_change_meta_by_hash(&hash).is_some()
            && self.base.is_none_or(|base| {
                let since = self.doc.get_changes_meta(base);
                since.iter().all(|change| change.hash != hash)
            })
    }
}
