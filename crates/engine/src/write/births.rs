//! The births and conversions an edit needs.

use automerge::{Automerge, ChangeHash as Hash, ObjId};
use rejoin_core::change::{
    Birth, ContainerKind, Conversion, ObjectId, genesis_actor, genesis_hash,
};
use rejoin_core::{ActorId, ChangeHash, DocumentId};

use super::tree::Object;

/// Something that every device would make by the same change.
#[derive(Debug)]
pub(super) enum Born {
    /// A container at a key that had no value.
    Birth(Birth),
    /// A text of a plain value.
    Conversion(Conversion),
}

impl Born {
    pub(super) fn hash(&self) -> Hash {
        Hash(match self {
            Self::Birth(birth) => birth.hash().0,
            Self::Conversion(conversion) => conversion.hash().0,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Birth(birth) => birth.encode(),
            Self::Conversion(conversion) => conversion.encode(),
        }
    }

    /// The container it makes.
    pub(super) fn object(&self) -> ObjectId {
        match self {
            Self::Birth(birth) => birth.object(),
            Self::Conversion(conversion) => conversion.object(),
        }
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Self::Birth(birth) => &birth.key,
            Self::Conversion(conversion) => &conversion.key,
        }
    }

    fn max_op(&self) -> u64 {
        match self {
            Self::Birth(birth) => birth.start_op(),
            Self::Conversion(conversion) => conversion.maker_max_op + conversion.ops(),
        }
    }
}

/// The births and conversions of one edit, parents before the containers born in them.
#[derive(Debug)]
pub(super) struct Births<'a> {
    doc: &'a Automerge,
    document: DocumentId,
    base: Option<&'a [Hash]>,
    /// Searched for when something is first born in the root.
    genesis: Option<Option<ChangeHash>>,
    births: Vec<Born>,
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
    /// `None` if it has to be made in the ordinary way: its map is made by this edit, too, or the
    /// document has no genesis, or the birth is there already and its container is not. Then
    /// somebody deleted the container with another program, and the same birth brings nothing back.
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
        self.births.push(Born::Birth(birth));
        Some(self.births.len() - 1)
    }

    /// Notes that a text is made of the plain value that stands at `key` of a map, written by the
    /// operation `op`, and returns its number.
    ///
    /// `None` if no other device could make the same conversion: this very edit made the map, or
    /// the conversion was made before and its text is not there any more.
    pub(super) fn convert(
        &mut self,
        parent: &Object,
        key: &str,
        value: &str,
        op: &ObjId,
    ) -> Option<usize> {
        let parent = match parent {
            Object::Known(ObjId::Root) => ObjectId::Root,
            other => self.maker(other)?.object,
        };
        let ObjId::Id(counter, actor, _) = op else { return None };
        let maker = self.doc.hash_for_opid(op)?;
        let maker_max_op = self.doc.get_change_meta_by_hash(&maker)?.max_op;
        let conversion = Conversion {
            document: self.document,
            parent,
            key: key.to_owned(),
            replaces: (*counter, ActorId(actor.to_bytes().to_vec())),
            value: value.to_owned(),
            maker: ChangeHash(maker.0),
            maker_max_op,
        };
        if self.base_has(Hash(conversion.hash().0)) {
            return None;
        }
        self.births.push(Born::Conversion(conversion));
        Some(self.births.len() - 1)
    }

    pub(super) fn into_births(self) -> Vec<Born> {
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
                let hash = ChangeHash(birth.hash().0);
                Some(Maker { object: birth.object(), hash, max_op: birth.max_op() })
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

    /// Whether a change is among those that the editor saw.
    fn base_has(&self, hash: Hash) -> bool {
        self.doc.get_change_meta_by_hash(&hash).is_some()
            && self.base.is_none_or(|base| {
                let since = self.doc.get_changes_meta(base);
                since.iter().all(|change| change.hash != hash)
            })
    }
}
