//! Answers an operator from the engine and the connections.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::{CollectionName, DeviceId, DocumentId, Genesis, Identity, SpaceName};

use super::driver::unix_ms;
use super::link::Links;
use crate::admin::{
    Answer, Ask, CarriedAnswer, CarriedAnswers, ConnectionAnswer, DeviceAnswer, DeviceSpace,
    DocumentAnswer, ErasedAnswer, ErasedAnswers, LossAnswer, QuarantinedAnswer, RevokedAnswer,
    RevokedKind, SpaceAnswer,
};
use crate::relay::{ConnectionId, Erased, Relay};
use crate::store::{Carried, CarriedRow, DeviceRow, Loss, Revoked, StoreError};

/// The answer to a question that needs nothing but the engine.
///
/// # Errors
/// In words for the operator.
pub(super) fn answer(relay: &mut Relay, links: &Links, ask: &Ask) -> Result<Answer, String> {
    let told = |error: StoreError| error.to_string();
    match ask {
        Ask::Spaces => spaces(relay, links).map(Answer::Spaces).map_err(told),
        Ask::Documents { space, collection, before, limit } => {
            let space = SpaceName::new(space.as_str()).map_err(|error| error.to_string())?;
            let collection = collection.as_deref().map(CollectionName::new).transpose();
            let collection = collection.map_err(|error| error.to_string())?;
            let found = documents(relay, &space, collection.as_ref(), *before, *limit);
            found.map(Answer::Documents).map_err(told)
        }
        Ask::Connections => Ok(Answer::Connections(connections(relay, links))),
        Ask::Devices => devices(relay, links).map(Answer::Devices).map_err(told),
        Ask::Quarantined => quarantined(relay).map(Answer::Quarantined).map_err(told),
        Ask::Erase { space, documents, heads } => {
            let heads = heads.iter().map(Some).chain(std::iter::repeat(None));
            let erased = documents.iter().zip(heads);
            let erased = erased.map(|(document, heads)| erase(relay, space, document, heads));
            let documents = erased.collect();
            // Also of orders before, which a crash may have cut short.
            let left = relay.overwrite().err().map(told);
            Ok(Answer::Erased(ErasedAnswers { documents, left }))
        }
        Ask::AcceptLoss { space, document } => {
            let (space, id) = named(relay, space, document)?;
            let is_accepted = relay.accept_loss(&space, id).map_err(told)?;
            Ok(Answer::Done(u64::from(is_accepted)))
        }
        Ask::Kick { connection, device } => {
            Ok(Answer::Done(kick(relay, links, *connection, device.as_deref())))
        }
        Ask::Revoke { kind, name, lift } => {
            let name = name.clone();
            let what = match kind {
                RevokedKind::User => Revoked::User(name),
                RevokedKind::Device => Revoked::Device(name),
                RevokedKind::Token => Revoked::Token(name),
            };
            let since_s = (!lift).then(|| unix_ms() / 1000);
            relay.revoke(&what, since_s).map(|()| Answer::Done(1)).map_err(told)
        }
        Ask::Revoked => Ok(Answer::Revoked(revoked(relay))),
        Ask::Carry { seconds } => {
            let until_ms = unix_ms().saturating_add(seconds.saturating_mul(1000));
            relay.carry_until((*seconds > 0).then_some(until_ms));
            Ok(Answer::Done(0))
        }
        Ask::Carried { limit } => carried(relay, *limit).map(Answer::Carried).map_err(told),
        Ask::Fold { space } => {
            let only = space.as_deref().map(SpaceName::new).transpose();
            let only = only.map_err(|error| error.to_string())?;
            relay.fold_all(only.as_ref()).map(Answer::Done).map_err(told)
        }
        Ask::Shrink => relay.store_mut().shrink().map(|()| Answer::Done(0)).map_err(told),
        Ask::Backup => Err("a backup is not made here".to_owned()),
    }
}

fn carried(relay: &Relay, limit: usize) -> Result<CarriedAnswers, StoreError> {
    let (changes, all) = relay.store().carried(limit)?;
    let changes = changes.into_iter().map(|Carried { space, document, hash, row }| {
        let CarriedRow { author, carrier, time_ms } = row;
        let (space, document, change) = (space.to_string(), document.to_string(), hash.to_string());
        CarriedAnswer { space, document, change, author, carrier, time_ms }
    });
    Ok(CarriedAnswers { until_ms: relay.carries_until(), all, changes: changes.collect() })
}

fn revoked(relay: &Relay) -> Vec<RevokedAnswer> {
    let revoked = relay.store().revoked().map(|(what, since_s)| {
        let (kind, name) = match what {
            Revoked::User(name) => (RevokedKind::User, name),
            Revoked::Device(id) => (RevokedKind::Device, id),
            Revoked::Token(id) => (RevokedKind::Token, id),
        };
        RevokedAnswer { kind, name, since_s }
    });
    revoked.collect()
}

fn erase(
    relay: &mut Relay,
    space: &str,
    document: &str,
    heads: Option<&Vec<String>>,
) -> ErasedAnswer {
    let erased = named(relay, space, document).and_then(|(space, id)| {
        if let Some(heads) = heads {
            let here = relay.store_mut().document(&space, &id).map_err(|it| it.to_string())?;
            let here = here.map(|(_, graph)| graph.heads()).unwrap_or_default();
            let here: BTreeSet<_> = here.iter().map(ToString::to_string).collect();
            if here != heads.iter().cloned().collect() {
                return Err("the replica knows it otherwise; sync that first".into());
            }
        }
        match relay.erase(&space, &id, unix_ms()).map_err(|error| error.to_string())? {
            Erased::Now(erasure) => Ok(erasure.changes),
            Erased::Schema => Err("a schema is not erased; `rejoin schema apply` replaces it".into()),
            Erased::Before => Err("it was erased before".into()),
            Erased::Unknown => Err(format!(
                "space {space} has no such document; `rejoin admin --space {space} documents` lists \
                 those that it has"
            )),
        }
    });
    let (changes, trouble) = match erased {
        Ok(changes) => (changes, None),
        Err(trouble) => (0, Some(trouble)),
    };
    ErasedAnswer { document: document.to_owned(), changes, trouble }
}

/// A document as an operator names it: by its id, or by its collection and key.
fn named(
    relay: &mut Relay,
    space: &str,
    document: &str,
) -> Result<(SpaceName, DocumentId), String> {
    let space = SpaceName::new(space).map_err(|error| error.to_string())?;
    if let Ok(id) = document.parse() {
        return Ok((space, id));
    }
    let neither = || format!("{document:?} is neither a document's id nor COLLECTION/KEY");
    let (collection, key) = document.split_once('/').ok_or_else(neither)?;
    let collection = CollectionName::new(collection).map_err(|error| error.to_string())?;
    let mut genesis = Genesis::first(key).map_err(|error| error.to_string())?;
    let store = relay.store_mut();
    loop {
        let id = DocumentId::derive(&space, &collection, &genesis);
        genesis.incarnation += 1;
        let next = DocumentId::derive(&space, &collection, &genesis);
        // The key was erased before, and may have been given again.
        let is_given_again = store
            .is_erased(&space, &id)
            .and_then(|is_erased| Ok(is_erased && store.known_heads(&space, &next)?.is_some()))
            .map_err(|error| error.to_string())?;
        if !is_given_again {
            return Ok((space, id));
        }
    }
}

fn spaces(relay: &mut Relay, links: &Links) -> Result<Vec<SpaceAnswer>, StoreError> {
    let followed: Vec<_> = links
        .ids()
        .into_iter()
        .filter_map(|id| relay.visitor(id))
        .flat_map(|visitor| visitor.spaces)
        .collect();
    let mut spaces = Vec::new();
    for space in relay.store_mut().spaces()? {
        let full = relay.space_full(&space)?;
        let store = relay.store_mut();
        let contents = store.contents(&space)?.into_iter();
        spaces.push(SpaceAnswer {
            documents: store.documents_of(&space)?,
            changes: store.space(&space)?.position,
            bytes: store.space_bytes(&space)?,
            collections: contents
                .map(|it| (it.collection.as_str().to_owned(), it.documents))
                .collect(),
            connections: followed.iter().filter(|followed| **followed == space).count(),
            full,
            space: space.as_str().to_owned(),
        });
    }
    Ok(spaces)
}

fn documents(
    relay: &mut Relay,
    space: &SpaceName,
    collection: Option<&CollectionName>,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<DocumentAnswer>, StoreError> {
    let store = relay.store_mut();
    let limit = limit.min(DOCUMENTS_MAX);
    let mut from = before.map_or(u64::MAX, |before| before.saturating_sub(1));
    let (mut found, mut looked) = (Vec::new(), 0);
    while found.len() < limit && looked < LOOKED_MAX {
        let page = store.latest_page(space, from, 0, PAGE_DOCUMENTS)?;
        let Some(last) = page.last() else { break };
        from = last.position - 1;
        looked += page.len();
        for latest in page {
            if found.len() >= limit || collection.is_some_and(|it| *it != latest.collection) {
                continue;
            }
            let size = match store.size(latest.number) {
                Ok(size) => size,
                Err(error) if error.is_confined() => {
                    store.suspect(&error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            found.push(DocumentAnswer {
                document: latest.document.to_string(),
                collection: latest.collection.as_str().to_owned(),
                changes: size.changes,
                bytes: size.tail_bytes,
                snapshot_bytes: size.snapshot_bytes,
                erased_ms: size.erased_ms,
                position: latest.position,
            });
        }
    }
    Ok(found)
}

fn connections(relay: &Relay, links: &Links) -> Vec<ConnectionAnswer> {
    let of = |id: ConnectionId| {
        let (link, visitor) = (links.get(id)?, relay.visitor(id)?);
        Some(ConnectionAnswer {
            connection: id.0,
            remote: link.remote.to_string(),
            seconds: link.since.elapsed().as_secs(),
            device: visitor.device.map(|device| device.to_string()),
            peer: visitor.peer,
            user: visitor.user,
            app: visitor.app,
            spaces: visitor.spaces.iter().map(|space| space.as_str().to_owned()).collect(),
            changes: visitor.changes,
            behind: visitor.behind,
            unread_bytes: visitor.unread_bytes,
            messages_in: link.came.messages,
            bytes_in: link.came.bytes,
            messages_out: link.went.messages,
            bytes_out: link.went.bytes,
        })
    };
    links.ids().into_iter().filter_map(of).collect()
}

fn devices(relay: &mut Relay, links: &Links) -> Result<Vec<DeviceAnswer>, StoreError> {
    // Of several connections of a device the latest counts: others are dead, and not found so yet.
    let here: BTreeMap<DeviceId, ConnectionId> =
        links.ids().into_iter().filter_map(|id| Some((relay.visitor(id)?.device?, id))).collect();
    let mut devices = Vec::new();
    for (device, row) in relay.store().devices()? {
        let connection = here.get(&device).copied();
        // What was sent since it came is known of a connected device.
        let row = connection.and_then(|id| relay.mark_of(id, &row)).unwrap_or(row);
        devices.push(device_answer(relay, device, row, connection.is_some())?);
    }
    Ok(devices)
}

fn device_answer(
    relay: &Relay,
    device: DeviceId,
    row: DeviceRow,
    connected: bool,
) -> Result<DeviceAnswer, StoreError> {
    let mut spaces = Vec::new();
    for mark in &row.marks {
        let Ok(space) = SpaceName::new(mark.space.as_str()) else { continue };
        spaces.push(DeviceSpace {
            space: mark.space.clone(),
            position: mark.position,
            of: relay.store().space(&space)?.position,
            older: mark.backfill.map_or(0, |it| it.through.saturating_sub(it.after)),
            sent: mark.is_sent,
        });
    }
    let identity = row.identity.as_deref().map(Identity::from_author);
    Ok(DeviceAnswer {
        device: device.to_string(),
        user: identity.as_ref().map(|identity| identity.user.clone()),
        name: identity.and_then(|identity| identity.device),
        app: row.app,
        first_ms: row.first_ms,
        seen_ms: row.seen_ms,
        connected,
        waited_on_arrival: row.waiting,
        spaces,
    })
}

fn quarantined(relay: &Relay) -> Result<QuarantinedAnswer, StoreError> {
    let held_back = relay.store().held_back()?.into_iter();
    Ok(QuarantinedAnswer {
        unmendable: relay.store().unmendable(),
        held_back: held_back.map(|(document, count)| (document.to_string(), count)).collect(),
        lost: relay.store().losses()?.into_iter().map(loss).collect(),
    })
}

fn loss(loss: Loss) -> LossAnswer {
    let Loss { space, document, changes, more, found_ms } = loss;
    let (space, document) = (space.to_string(), document.to_string());
    LossAnswer { space, document, changes, more, found_ms }
}

fn kick(relay: &mut Relay, links: &Links, connection: Option<u64>, device: Option<&str>) -> u64 {
    let mut kicked = 0;
    for id in links.ids() {
        let Some(visitor) = relay.visitor(id) else { continue };
        let its_device = visitor.device.map(|device| device.to_string());
        let is_meant =
            connection == Some(id.0) || device.is_some() && its_device.as_deref() == device;
        if is_meant {
            relay.kick(id);
            kicked += 1;
        }
    }
    kicked
}

/// Documents in one answer.
const DOCUMENTS_MAX: usize = 1000;

/// Documents that are looked at for one answer: others wait meanwhile.
const LOOKED_MAX: usize = 100_000;

/// Documents that are read at once.
const PAGE_DOCUMENTS: usize = 256;
