//! A change written again, because a change that it builds on is gone or has another hash.
//!
//! A change names the things it touches by operations and not by places, so the change that is
//! written again says the same of the same items, characters and values, even if others stand
//! around them. Its dependencies are those of the old change, each replaced by the changes that
//! took its place. An edit is therefore never moved to a state of the document that its author did
//! not see.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use automerge::legacy::{ElementId, Key, ObjectId as Object, Op, OpId, OpType};
use automerge::{ActorId, Automerge, Change, ChangeHash, ExpandedChange, ObjType, ScalarValue};
use rejoin_core::change::{Birth, ContainerKind, Conversion, ObjectId, is_reserved_bytes, parse};
use rejoin_core::{DocumentId, Identity, Settlement, ShortHash, Undo};

/// Writes changes again in a document that lacks some of the changes they built on. Every change
/// that is not in the document is to be given to [`write`](Self::write) or to [`lose`](Self::lose),
/// in an order in which each comes after those it builds on.
#[derive(Debug)]
pub(crate) struct Again {
    document: DocumentId,
    /// The author bytes in the first change of each actor.
    authors: BTreeMap<ActorId, Vec<u8>>,
    /// The users that those name.
    users: BTreeMap<ActorId, String>,
    /// The actor that writes in the place of another.
    actors: BTreeMap<ActorId, Successor>,
    /// The operations of the changes that are gone.
    ops: BTreeMap<OpId, Now>,
    /// The changes that took the place of one that is gone.
    changes: BTreeMap<ChangeHash, Vec<ChangeHash>>,
    /// The last operation of each change that was written.
    max_ops: BTreeMap<ChangeHash, u64>,
}

/// A fresh actor, and how many changes it has written.
#[derive(Debug)]
struct Successor {
    actor: ActorId,
    seq: u64,
}

/// The fate of an operation.
#[derive(Debug, Clone)]
enum Now {
    Renamed(OpId),
    /// No operation has its effect any more.
    Lost {
        /// The element after which an item is to stand that was to stand after it.
        after: ElementId,
        /// The values that it had taken the place of.
        over: Vec<OpId>,
    },
}

/// The way in which a change was written again.
#[derive(Debug)]
pub(crate) enum Written {
    /// As this change.
    Change(Box<Change>),
    /// It is not needed: all that it deleted is gone.
    Unneeded,
    /// It cannot be, for it writes in something that is gone.
    Lost,
}

/// The change would write in something that is gone.
#[derive(Debug)]
struct Lost;

/// New names of operations, by their old ones.
type Names = BTreeMap<OpId, OpId>;

/// A change and the new names of its operations, or `None` if it is not needed.
type Renamed = Result<Option<(Change, Names)>, Lost>;

impl Again {
    /// `history` is every change of the document that there was.
    pub(crate) fn new<'a>(
        document: DocumentId,
        history: impl IntoIterator<Item = &'a Change>,
    ) -> Self {
        let (mut authors, mut users) = (BTreeMap::new(), BTreeMap::new());
        for change in history.into_iter().filter(|change| change.seq() == 1) {
            authors.insert(change.actor_id().clone(), change.extra_bytes().to_vec());
            if let Some(author) = change.author() {
                let user = Identity::from_author(author.as_bytes()).user;
                users.insert(change.actor_id().clone(), user);
            }
        }
        Self {
            document,
            authors,
            users,
            actors: BTreeMap::new(),
            ops: BTreeMap::new(),
            changes: BTreeMap::new(),
            max_ops: BTreeMap::new(),
        }
    }

    /// Writes a change again, to be applied to `doc`. `draw` gives random bytes for an actor.
    pub(crate) fn write(
        &mut self,
        doc: &Automerge,
        change: &Change,
        draw: impl FnMut() -> [u8; 16],
    ) -> Written {
        let expanded = change.decode();
        let written = match is_reserved_bytes(change.actor_id().to_bytes()) {
            true => self.birth(doc, change, &expanded),
            false => self.edit(doc, &expanded, draw),
        };
        match written {
            Ok(Some((new, names))) => {
                self.max_ops.insert(new.hash(), new.max_op());
                self.changes.insert(change.hash(), vec![new.hash()]);
                let names = names.into_iter().map(|(old, new)| (old, Now::Renamed(new)));
                self.ops.extend(names);
                Written::Change(Box::new(new))
            }
            Ok(None) => {
                self.lose(change);
                Written::Unneeded
            }
            Err(Lost) => {
                self.lose(change);
                Written::Lost
            }
        }
    }

    /// The user whose name a change bears that was written here.
    pub(crate) fn user_of(&self, change: &Change) -> Option<String> {
        let of = self.actors.iter().find(|(_, successor)| successor.actor == *change.actor_id());
        self.users.get(of.map_or_else(|| change.actor_id(), |(actor, _)| actor)).cloned()
    }

    /// Notes that a change is gone for good.
    pub(crate) fn lose(&mut self, change: &Change) {
        let (expanded, none) = (change.decode(), Names::new());
        for (op, counter) in expanded.operations.iter().zip(expanded.start_op.get()..) {
            let after = match &op.key {
                Key::Seq(element) => self.renaming(&none).element(element),
                Key::Map(_) => ElementId::Head,
            };
            let over = self.renaming(&none).preds(op);
            let id = OpId(counter, expanded.actor_id.clone());
            self.ops.entry(id).or_insert(Now::Lost { after, over });
        }
        let deps = self.deps(&expanded);
        self.changes.insert(change.hash(), deps);
    }

    /// A container that is born where another operation made the map around it is another birth,
    /// and a text of a value that another operation wrote is another conversion.
    fn birth(&self, doc: &Automerge, change: &Change, expanded: &ExpandedChange) -> Renamed {
        let [op, characters @ ..] = expanded.operations.as_slice() else { return Err(Lost) };
        let [maker] = expanded.deps.as_slice() else { return Err(Lost) };
        let maker = match self.changes.get(maker).map(Vec::as_slice) {
            // The change it builds on is as it was, and so is the birth.
            None => return Ok(Some((change.clone(), Names::new()))),
            Some([maker]) => maker,
            Some(_) => return Err(Lost),
        };
        let Key::Map(key) = &op.key else { return Err(Lost) };
        let parent = match self.renaming(&Names::new()).object(&op.obj).ok_or(Lost)? {
            Object::Root => ObjectId::Root,
            Object::Id(OpId(counter, actor)) => {
                ObjectId::Op { counter, actor: rejoin_core::ActorId(actor.to_bytes().to_vec()) }
            }
        };
        let (document, key) = (self.document, key.to_string());
        let maker_max_op = self.max_op(doc, maker).ok_or(Lost)?;
        let maker = rejoin_core::ChangeHash(maker.0);
        let bytes = match op.pred.iter().next() {
            None => {
                let kind = kind(op).ok_or(Lost)?;
                Birth { document, parent, key, kind, maker, maker_max_op }.encode()
            }
            Some(replaced) => {
                let Now::Renamed(OpId(counter, actor)) = self.renaming(&Names::new()).now(replaced)
                else {
                    return Err(Lost);
                };
                let replaces = (counter, rejoin_core::ActorId(actor.to_bytes().to_vec()));
                let value = characters.iter().map(character).collect::<Option<_>>().ok_or(Lost)?;
                Conversion { document, parent, key, replaces, value, maker, maker_max_op }.encode()
            }
        };
        let new = Change::from_bytes(bytes).map_err(|_| Lost)?;
        let before = expanded.start_op.get()..;
        let names = before.zip(new.start_op().get()..).take(expanded.operations.len());
        let names = names.map(|(old, now)| {
            (OpId(old, expanded.actor_id.clone()), OpId(now, new.actor_id().clone()))
        });
        let names = names.collect();
        Ok(Some((new, names)))
    }

    fn edit(
        &mut self,
        doc: &Automerge,
        expanded: &ExpandedChange,
        mut draw: impl FnMut() -> [u8; 16],
    ) -> Renamed {
        let deps = self.deps(expanded);
        let max_op = deps.iter().filter_map(|dep| self.max_op(doc, dep)).max();
        let start_op = NonZeroU64::MIN.saturating_add(max_op.unwrap_or_default());
        let fresh = || Successor { actor: ActorId::from(draw().to_vec()), seq: 0 };
        let successor = self.actors.entry(expanded.actor_id.clone()).or_insert_with(fresh);
        let (actor, seq) = (successor.actor.clone(), successor.seq + 1);
        let (operations, names) = self.operations(expanded, start_op.get(), &actor)?;
        if operations.is_empty() && !expanded.operations.is_empty() {
            return Ok(None);
        }
        let author = self.authors.get(&expanded.actor_id).filter(|_| seq == 1);
        let change = Change::from(ExpandedChange {
            operations,
            actor_id: actor,
            hash: None,
            seq,
            start_op,
            time: expanded.time,
            message: expanded.message.as_deref().map(|message| self.message(message)),
            deps,
            extra_bytes: author.cloned().unwrap_or_default(),
            author: None,
        });
        // With other numbers it may have grown over a limit.
        parse(change.raw_bytes()).map_err(|_| Lost)?;
        if let Some(successor) = self.actors.get_mut(&expanded.actor_id) {
            successor.seq = seq;
        }
        Ok(Some((change, names)))
    }

    /// The operations with their new names. An edit is written as a whole or not at all.
    fn operations(
        &self,
        expanded: &ExpandedChange,
        start_op: u64,
        actor: &ActorId,
    ) -> Result<(Vec<Op>, Names), Lost> {
        let (mut names, mut operations) = (Names::new(), Vec::new());
        for (op, counter) in expanded.operations.iter().zip(expanded.start_op.get()..) {
            let Some(new) = self.renaming(&names).op(op)? else { continue };
            let name = OpId(start_op + operations.len() as u64, actor.clone());
            names.insert(OpId(counter, expanded.actor_id.clone()), name);
            operations.push(new);
        }
        Ok((operations, names))
    }

    /// A settlement names the changes that it decided between, and an undo those that it takes back.
    fn message(&self, message: &str) -> String {
        // Other messages name nothing.
        if !message.starts_with('{') {
            return message.to_owned();
        }
        let short = |hash: &ChangeHash| rejoin_core::ChangeHash(hash.0).short();
        let written = self.changes.iter().filter_map(|(old, new)| match new.as_slice() {
            [new] if self.max_ops.contains_key(new) => Some((short(old), short(new))),
            _ => None,
        });
        let renamed: BTreeMap<_, _> = written.collect();
        let rename = |hashes: &mut Vec<ShortHash>| {
            hashes.iter_mut().for_each(|hash| *hash = renamed.get(hash).copied().unwrap_or(*hash));
        };
        if let Some(mut settlement) = Settlement::from_message(message) {
            rename(&mut settlement.closes);
            return settlement.to_message();
        }
        let Some(mut undo) = Undo::from_message(message) else { return message.to_owned() };
        rename(&mut undo.undoes);
        rename(&mut undo.closes);
        // Its hashes have the length that they had.
        undo.to_message().unwrap_or_else(|| message.to_owned())
    }

    fn renaming<'a>(&'a self, own: &'a Names) -> Renaming<'a> {
        Renaming { again: self, own }
    }

    fn deps(&self, expanded: &ExpandedChange) -> Vec<ChangeHash> {
        let mut deps: Vec<ChangeHash> = expanded
            .deps
            .iter()
            .flat_map(|dep| self.changes.get(dep).cloned().unwrap_or_else(|| vec![*dep]))
            .collect();
        deps.sort_unstable();
        deps.dedup();
        deps
    }

    fn max_op(&self, doc: &Automerge, change: &ChangeHash) -> Option<u64> {
        let written = self.max_ops.get(change).copied();
        written.or_else(|| doc.get_change_meta_by_hash(change).map(|change| change.max_op))
    }
}

/// The names by which a change that is being written refers to operations.
struct Renaming<'a> {
    again: &'a Again,
    /// The new names within the change itself.
    own: &'a Names,
}

impl Renaming<'_> {
    fn now(&self, id: &OpId) -> Now {
        match self.own.get(id) {
            Some(own) => Now::Renamed(own.clone()),
            None => self.again.ops.get(id).cloned().unwrap_or_else(|| Now::Renamed(id.clone())),
        }
    }

    /// The operation, or `None` if it only deletes something that is gone.
    fn op(&self, op: &Op) -> Result<Option<Op>, Lost> {
        let deletes = matches!(op.action, OpType::Delete);
        let pred = self.preds(op);
        let is_there = |id: &OpId| matches!(self.now(id), Now::Renamed(_));
        let stands = match &op.key {
            Key::Seq(ElementId::Id(item)) if !op.insert => is_there(item),
            _ => true,
        };
        let (Some(obj), true) = (self.object(&op.obj), stands) else {
            return if deletes { Ok(None) } else { Err(Lost) };
        };
        if deletes && pred.is_empty() {
            return Ok(None);
        }
        let counts = matches!(op.action, OpType::Increment(_));
        if counts && !op.pred.iter().all(is_there) {
            return Err(Lost);
        }
        let key = match &op.key {
            Key::Map(key) => Key::Map(key.clone()),
            Key::Seq(element) => Key::Seq(self.element(element)),
        };
        let (action, insert) = (op.action.clone(), op.insert);
        Ok(Some(Op { action, obj, key, pred: pred.into(), insert }))
    }

    fn object(&self, object: &Object) -> Option<Object> {
        let Object::Id(id) = object else { return Some(Object::Root) };
        match self.now(id) {
            Now::Renamed(id) => Some(Object::Id(id)),
            Now::Lost { .. } => None,
        }
    }

    fn element(&self, element: &ElementId) -> ElementId {
        let ElementId::Id(id) = element else { return ElementId::Head };
        match self.now(id) {
            Now::Renamed(id) => ElementId::Id(id),
            Now::Lost { after, .. } => after,
        }
    }

    /// The values that an operation takes the place of. In the place of a value that is gone stand
    /// those that it had taken the place of.
    fn preds(&self, op: &Op) -> Vec<OpId> {
        let mut preds: Vec<OpId> = op
            .pred
            .iter()
            .flat_map(|id| match self.now(id) {
                Now::Renamed(id) => vec![id],
                Now::Lost { over, .. } => over,
            })
            .collect();
        preds.sort();
        preds.dedup();
        preds
    }
}

/// The kind of container that a birth's operation makes.
fn kind(op: &Op) -> Option<ContainerKind> {
    match &op.action {
        OpType::Make(ObjType::Text) => Some(ContainerKind::Text),
        OpType::Make(ObjType::List) => Some(ContainerKind::List),
        OpType::Make(ObjType::Map) => Some(ContainerKind::Map),
        OpType::Put(ScalarValue::Counter(_)) => Some(ContainerKind::Counter),
        _ => None,
    }
}

/// The character that an operation inserts, if it does nothing else.
fn character(op: &Op) -> Option<String> {
    match &op.action {
        OpType::Put(ScalarValue::Str(character)) if op.insert => Some(character.to_string()),
        _ => None,
    }
}
