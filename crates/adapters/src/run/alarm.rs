//! What somebody should hear of without asking: deliveries that are late, a target that is away, and
//! dead letters.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info};

use super::Adapter;
use crate::clock::now_ms;
use crate::outbox::OutboxError;

/// What was told of last.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    late: bool,
    away: bool,
    dead: u64,
}

/// Looks from time to time, until `stop` says so. Each thing is told of once, and when it is over.
pub(super) async fn watch(adapter: Adapter, mut stop: watch::Receiver<bool>) {
    let mut told = Told::default();
    loop {
        tokio::select! {
            () = sleep(EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match look(&adapter).await {
            Ok(found) => told = tell(&adapter, &told, found),
            Err(fault) => error!(error = &fault as &dyn std::error::Error, "nobody can look"),
        }
    }
}

async fn look(adapter: &Adapter) -> Result<Told, OutboxError> {
    let late_ms = u64::try_from(adapter.mapping.late_after.as_millis()).unwrap_or(u64::MAX);
    let looked = adapter.outbox(move |outbox| {
        let now = now_ms();
        let since = outbox.unsent(1)?.first().map(|unsent| unsent.since_ms);
        // What is known to be the target's trouble was told of when it began.
        let away = outbox.endpoint().failing_since_ms.filter(|_| !outbox.is_down());
        Ok(Told {
            late: since.is_some_and(|since| now.saturating_sub(since) > late_ms),
            away: away.is_some_and(|since| now.saturating_sub(since) > AWAY_MS),
            dead: outbox.depth()?.dead,
        })
    });
    looked.await
}

fn tell(adapter: &Adapter, told: &Told, found: Told) -> Told {
    let name = &adapter.name;
    match (told.late, found.late) {
        (false, true) => error!("{name} is late; `rejoin adapters status` shows with what and why"),
        (true, false) => info!("{name} is not late any more"),
        _ => {}
    }
    match (told.away, found.away) {
        (false, true) => error!("the target of {name} takes nothing; `rejoin adapters status`"),
        (true, false) => info!("the target of {name} is back"),
        _ => {}
    }
    if found.dead > told.dead {
        let dead = found.dead;
        error!(dead, "{name} has dead letters; `rejoin adapters dead-letters {name}` lists them");
    }
    found
}

/// How often.
const EVERY: Duration = Duration::from_secs(20);

/// How long a target may answer nothing but failures before somebody hears of it.
const AWAY_MS: u64 = 120_000;
