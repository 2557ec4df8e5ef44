//! From deliveries that wait to a target that has them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rejoin::DocumentId;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, error, error_span, info, warn};

use super::Adapter;
use crate::clock::now_ms;
use crate::delivery::{Delivery, Fault, FaultClass};
use crate::outbox::{Attempt, Finished, Outbox, OutboxError, TARGET};

/// Delivers until `stop` says so, and waits for what is under way then.
pub(super) async fn deliver(adapter: Adapter, mut stop: watch::Receiver<bool>) {
    let mut under_way = JoinSet::new();
    let mut documents = HashMap::new();
    // Who delivered before may have broken off.
    let give_back = |outbox: &mut Outbox| {
        outbox.give_back_all();
        Ok(())
    };
    while let Err(fault) = adapter.outbox(give_back).await {
        error!(error = &fault as &dyn std::error::Error, "nothing is delivered for now");
        sleep(AGAIN).await;
    }
    let mut rate = adapter.mapping.rate.map(Rate::new);
    while !*stop.borrow() {
        let wait = match start(&adapter, &mut under_way, &mut documents, rate.as_mut()).await {
            Ok(wait) => wait,
            Err(fault) => {
                error!(error = &fault as &dyn std::error::Error, "nothing is delivered for now");
                AGAIN
            }
        };
        let ended = tokio::select! {
            ended = under_way.join_next_with_id(), if !under_way.is_empty() => ended,
            () = adapter.due.notified() => None,
            () = sleep(wait) => None,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(ended) = ended else { continue };
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let some: Vec<DocumentId> = documents.remove(&id).unwrap_or_default();
        if let Err(panic) = ended {
            error!(%panic, "a delivery broke off");
            let give_back = move |outbox: &mut Outbox| {
                some.iter().for_each(|document| outbox.give_back(document));
                Ok(())
            };
            adapter.outbox(give_back).await.unwrap_or_default();
            sleep(AGAIN).await;
        }
    }
    let rest = async { while under_way.join_next().await.is_some() {} };
    if timeout(REST, rest).await.is_err() {
        warn!("the target does not answer; what is under way is sent again later");
    }
}

/// Hands over what is due. Returns how long nothing else will be.
async fn start(
    adapter: &Adapter,
    under_way: &mut JoinSet<()>,
    documents: &mut HashMap<Id, Vec<DocumentId>>,
    mut rate: Option<&mut Rate>,
) -> Result<Duration, OutboxError> {
    let max = adapter.mapping.concurrency.max(adapter.sink.batch());
    let allowed = rate.as_mut().map_or(usize::MAX, |rate| rate.allowed());
    let (attempts, next) = adapter
        .outbox(move |outbox| {
            let begin = max.min(outbox.under_way().saturating_add(allowed));
            let attempts = outbox.take(now_ms(), begin)?;
            // Where as many are under way as may be, the next one begins when one of them ends.
            let is_full = outbox.under_way() >= max;
            let next = if is_full { None } else { outbox.next_ms().unwrap_or_default() };
            Ok((attempts, next))
        })
        .await?;
    let deliveries: Vec<Delivery> = attempts
        .into_iter()
        .map(|Attempt { delivery, attempts }| {
            debug!(doc = %delivery.document, key = %delivery.key.0, attempts, "handed over");
            delivery
        })
        .collect();
    if let Some(rate) = &mut rate {
        rate.begin(deliveries.len());
    }
    for some in deliveries.chunks(adapter.sink.batch().max(1)) {
        let (adapter, some) = (adapter.clone(), some.to_vec());
        let of = some.iter().map(|delivery| delivery.document).collect();
        // Whatever is logged carries the adapter's name, also where only errors are wanted.
        let span =
            error_span!("delivery", adapter = %adapter.name, rows = some.len(), refused = Empty);
        let handed_over = async move { hand_over(&adapter, some).await };
        let task = under_way.spawn(handed_over.instrument(span));
        documents.insert(task.id(), of);
    }
    let wait = next.map_or(IDLE, |next| Duration::from_millis(next.saturating_sub(now_ms())));
    let until_allowed = rate.map_or(Duration::ZERO, |rate| rate.wait());
    Ok(wait.max(until_allowed).min(IDLE))
}

/// How many deliveries may begin: so many a second, and after a rest no more than that at once.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    saved: f64,
    at: Instant,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, saved: per_second, at: Instant::now() }
    }

    fn allowed(&mut self) -> usize {
        let now = Instant::now();
        let more = (now - self.at).as_secs_f64() * self.per_second;
        (self.saved, self.at) = ((self.saved + more).min(self.per_second.max(1.0)), now);
        self.saved as usize
    }

    fn begin(&mut self, deliveries: usize) {
        self.saved -= deliveries as f64;
    }

    /// Until the next one may begin.
    fn wait(&self) -> Duration {
        Duration::from_secs_f64((1.0 - self.saved).max(0.0) / self.per_second)
    }
}

async fn hand_over(adapter: &Adapter, deliveries: Vec<Delivery>) {
    let outcomes = match timeout(ANSWER, adapter.sink.apply(&deliveries)).await {
        Ok(outcomes) => outcomes,
        Err(_) => {
            let what = format!("the target did not answer for {} s", ANSWER.as_secs());
            vec![Err(Fault::transient(what)); deliveries.len()]
        }
    };
    let now = now_ms();
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    Span::current().record("refused", refused);
    count(adapter, now, &deliveries, &outcomes);
    let outcomes: Arc<Vec<_>> = Arc::new(deliveries.into_iter().zip(outcomes).collect());
    let finished = loop {
        let some = Arc::clone(&outcomes);
        let finish = move |outbox: &mut Outbox| {
            let finished = outbox.finish(now, &some)?;
            Ok((finished, outbox.depth().unwrap_or_default().waiting))
        };
        match adapter.outbox(finish).await {
            Err(fault @ OutboxError::Unavailable(_)) => {
                error!(error = &fault as &dyn std::error::Error, "an outcome is not kept yet");
                sleep(AGAIN).await;
            }
            finished => break finished,
        }
    };
    match finished {
        Err(fault) => error!(error = &fault as &dyn std::error::Error, "an outcome is not kept"),
        Ok((finished, waiting)) => {
            tell(&adapter.name, &finished, waiting);
            if finished.freed {
                adapter.again.notify_one();
            }
        }
    }
    adapter.due.notify_one();
}

/// Counts what came of deliveries. Of what was refused together one line tells; where each is handed
/// over alone, the alarm tells how many there are.
fn count(adapter: &Adapter, now: u64, deliveries: &[Delivery], outcomes: &[Result<(), Fault>]) {
    let mut lag = adapter.lag.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut refused, mut first) = (0, None);
    for (delivery, outcome) in deliveries.iter().zip(outcomes) {
        let Err(fault) = outcome else {
            lag.note(now.saturating_sub(delivery.enqueued_ms));
            continue;
        };
        debug!(doc = %delivery.document, key = %delivery.key.0, %fault, "not delivered");
        match fault.class {
            FaultClass::Transient { .. } => lag.transient += 1,
            FaultClass::Trouble(_) => lag.trouble += 1,
            FaultClass::Permanent | FaultClass::Gone => {
                lag.permanent += 1;
                refused += 1;
                first.get_or_insert(fault);
            }
        }
    }
    if let Some(fault) = first.filter(|_| adapter.sink.batch() > 1) {
        warn!(rows = refused, %fault, "the target refuses rows");
    }
}

/// Tells of troubles when they begin, change and end, each in one line however many rows wait.
fn tell(name: &str, finished: &Finished, waiting: u64) {
    let of = |kind: &str| match kind {
        TARGET => name.to_owned(),
        kind => format!("{kind} of {name}"),
    };
    for (kind, trouble) in &finished.begun {
        let (of, what) = (of(kind), &trouble.what);
        error!(
            what,
            waiting,
            "nothing is delivered for {of} for now; once that is mended it goes on by itself, at once \
             with `rejoin adapters retry {name}`"
        );
    }
    for (kind, trouble) in &finished.ended {
        let lasted = Duration::from_secs(now_ms().saturating_sub(trouble.since_ms) / 1000);
        let lasted = humantime::format_duration(lasted);
        info!(%lasted, waiting, "{} goes on", of(kind));
    }
    if let Some(why) = &finished.given_up {
        error!(why, "{name} was given up; `rejoin adapters resume {name}` tries again");
    }
}

/// How long a target may take to answer, whatever its sink allows it.
const ANSWER: Duration = Duration::from_mins(2);

/// How long what is under way may take when everything ends.
const REST: Duration = Duration::from_secs(10);

/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// How long to wait at most.
const IDLE: Duration = Duration::from_mins(1);
