//! How adapters stand, as they tell it.

use std::sync::PoisonError;

use rejoin::CollectionName;

use super::answer::{
    Begun, Carries, InFile, Link, NotBegun, Reach, Standing, State, Status, Trouble, UnsentRow,
};
use super::error::OperateError;
use super::{Adapter, Operator};
use crate::clock::now_ms;
use crate::config::parse;
use crate::outbox::{Failing, FailingReach, Outbox, Unsent};

impl Operator {
    /// How all adapters stand, also those that cannot begin and, with the text of a file, those that
    /// are in it alone.
    pub(super) async fn status_of_all(
        &self,
        file: Option<&str>,
    ) -> Result<Vec<Status>, OperateError> {
        let mut all = Vec::new();
        for adapter in self.adapters.values() {
            all.push(self.status(adapter).await?);
        }
        all.extend(self.stopped.iter().map(|(name, why)| {
            self.not_begun(name, None, NotBegun::Stopped { stopped: why.clone() })
        }));
        // What the file says is not in effect before somebody applies it.
        let Some(wanted) = file.and_then(|text| parse(text).config) else { return Ok(all) };
        let running = self.config.borrow();
        for status in &mut all {
            let name = &status.adapter;
            status.in_file = Some(match wanted.adapters.get(name) {
                None => InFile::Removed,
                mapping if mapping != running.adapters.get(name) => InFile::Changed,
                Some(_) => InFile::Same,
            });
        }
        let new = wanted.adapters.keys().filter(|name| !running.adapters.contains_key(*name));
        all.extend(new.map(|name| self.not_begun(name, Some(InFile::New), NotBegun::New)));
        Ok(all)
    }

    fn not_begun(&self, name: &str, in_file: Option<InFile>, why: NotBegun) -> Status {
        let standing = Standing::NotBegun(why);
        Status { adapter: name.to_owned(), link: self.link(), in_file, standing }
    }

    /// How one adapter stands whose outbox is open.
    pub(super) async fn status(&self, adapter: &Adapter) -> Result<Status, OperateError> {
        let (depth, unsent, endpoint, state, failing) = adapter
            .outbox(|outbox| {
                let (depth, unsent) = (outbox.depth()?, outbox.unsent(UNSENT_SHOWN)?);
                let failing = outbox.failing()?;
                Ok((depth, unsent, outbox.endpoint().clone(), state(outbox), failing))
            })
            .await?;
        let oldest_ms = unsent.first().map(|unsent| now_ms().saturating_sub(unsent.since_ms));
        let late_ms = adapter.mapping.late_after.as_millis();
        let unsent = unsent.into_iter().map(|unsent| self.unsent(unsent)).collect();
        let carries = self.carries(&adapter.mapping.collection)?;
        let lag = adapter.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Begun {
            state,
            collection: adapter.mapping.collection.as_str().to_owned(),
            carries,
            why: endpoint.disabled,
            failing_since_ms: endpoint.failing_since_ms,
            troubles: failing.into_iter().take(TROUBLES_SHOWN).map(trouble).collect(),
            waiting: depth.waiting,
            oldest_ms,
            is_late: oldest_ms.is_some_and(|oldest| u128::from(oldest) > late_ms),
            dead_letters: depth.dead,
            discarded: depth.discarded,
            documents: depth.documents,
            taken: lag.taken,
            transient: lag.transient,
            trouble: lag.trouble,
            permanent: lag.permanent,
            lag_p50_ms: lag.quantile(0.5),
            lag_p99_ms: lag.quantile(0.99),
            reconciled: adapter.reconciled.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            unsent,
        };
        Ok(Status {
            adapter: adapter.name.clone(),
            link: self.link(),
            in_file: None,
            standing: Standing::Begun(Box::new(begun)),
        })
    }

    fn unsent(&self, unsent: Unsent) -> UnsentRow {
        let Unsent { document, record, since_ms, attempts, fault } = unsent;
        UnsentRow {
            document: document.to_string(),
            key: self.key(&document),
            name: record.name,
            record: record.key,
            since_ms,
            attempts,
            fault,
        }
    }

    /// How the replica stands towards its relay.
    pub(super) fn link(&self) -> Link {
        self.heard.link(self.replica.as_ref().map(|(replica, _)| replica))
    }

    /// How many documents there are in a collection, and in which others there are any.
    pub(super) fn carries(
        &self,
        collection: &CollectionName,
    ) -> Result<Option<Carries>, OperateError> {
        let Some((_, space)) = &self.replica else { return Ok(None) };
        let found = space.collections().map_err(|error| OperateError::Replica(error.into()))?;
        let documents = found.iter().find(|(name, _)| name == collection).map_or(0, |it| it.1);
        let names = found.iter().map(|(name, _)| name.as_str());
        let names = names.filter(|name| !name.starts_with("rejoin."));
        Ok(Some(Carries { documents, collections: names.map(ToOwned::to_owned).collect() }))
    }
}

/// How it stands with a target.
pub(super) fn state(outbox: &Outbox) -> State {
    match outbox.endpoint() {
        endpoint if endpoint.disabled.is_some() => State::Disabled,
        endpoint if endpoint.paused => State::Paused,
        _ if outbox.delivers_nothing() => State::Down,
        _ if !outbox.is_applied() => State::Changed,
        _ => State::Up,
    }
}

fn trouble(failing: Failing) -> Trouble {
    let Failing { what, reach, since_ms, rows, next_ms } = failing;
    let (reach, kind) = match reach {
        FailingReach::Target => (Reach::Target, None),
        FailingReach::Kind(kind) => (Reach::Kind, Some(kind)),
        FailingReach::Rows => (Reach::Rows, None),
    };
    Trouble { what, reach, kind, since_ms, rows, next_ms }
}

/// Deliveries that are told of each adapter.
const UNSENT_SHOWN: usize = 20;

/// Causes that are told of each adapter.
const TROUBLES_SHOWN: usize = 20;
