//! Dead letters as people look at them, replay them and let them be: one, or all that are meant.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Adapter;
use super::error::OperateError;
use super::operate::Operator;
use crate::clock::now_ms;
use crate::outbox::{DeadLetter, Outbox, OutboxError, Selection};

/// Which dead letters of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letters {
    /// One.
    One {
        /// Its number.
        number: u64,
    },
    /// All that are meant.
    All {
        /// Which.
        meant: Selection,
    },
}

/// Does something to dead letters in one commit, and tells to how many.
type Work = fn(&mut Outbox, u64, &[u64]) -> Result<u64, OutboxError>;

impl Operator {
    pub(super) async fn dead_letters(
        &self,
        adapters: Vec<&Adapter>,
        meant: Selection,
    ) -> Result<Value, OperateError> {
        let mut all = Vec::new();
        for adapter in adapters {
            let letters = adapter.outbox(|outbox| outbox.dead_letters()).await?;
            let letters = letters.iter().filter(|(_, letter)| meant.means(letter));
            all.extend(letters.map(|(number, it)| self.letter(adapter, *number, it)));
        }
        Ok(Value::Array(all))
    }

    /// Delivers dead letters after all.
    pub(super) async fn replay(
        &self,
        adapter: &Adapter,
        letters: &Letters,
    ) -> Result<Value, OperateError> {
        let answer = match letters {
            Letters::One { number } => {
                let number = *number;
                let replay = move |outbox: &mut Outbox| outbox.replay(now_ms(), number);
                self.letter(adapter, number, &adapter.outbox(replay).await?)
            }
            Letters::All { meant } => {
                let replayed = some_hundreds(adapter, *meant, Outbox::replay_all).await?;
                json!({ "adapter": adapter.name, "replayed": replayed })
            }
        };
        adapter.again.notify_one();
        adapter.due.notify_one();
        Ok(answer)
    }

    /// Lets dead letters be.
    pub(super) async fn discard(
        &self,
        adapter: &Adapter,
        letters: &Letters,
    ) -> Result<Value, OperateError> {
        let answer = match letters {
            Letters::One { number } => {
                let number = *number;
                let discard = move |outbox: &mut Outbox| outbox.discard(now_ms(), number);
                self.letter(adapter, number, &adapter.outbox(discard).await?)
            }
            Letters::All { meant } => {
                let discarded = some_hundreds(adapter, *meant, Outbox::discard_all).await?;
                json!({ "adapter": adapter.name, "discarded": discarded })
            }
        };
        adapter.due.notify_one();
        Ok(answer)
    }

    fn letter(&self, adapter: &Adapter, number: u64, letter: &DeadLetter) -> Value {
        let heads: Vec<_> = letter.heads.iter().map(ToString::to_string).collect();
        // As it was to be delivered: masked as the mapping masks.
        let row = letter.delivery.as_ref().and_then(|delivery| delivery.action.row());
        let value = row.zip(letter.field.as_ref()).and_then(|(row, field)| row.get(field));
        json!({
            "adapter": adapter.name,
            "number": number,
            "class": letter.class.name(),
            "fault": letter.fault,
            "field": letter.field,
            "value": value,
            "answer": letter.answer,
            "attempts": letter.attempts,
            "document": letter.document.to_string(),
            "key": self.key(&letter.document),
            "name": letter.record.name,
            "record": letter.record.key,
            "at_ms": letter.at_ms,
            "heads": heads,
            "delivery": letter.delivery.as_ref().map(|delivery| delivery.to_json()),
        })
    }
}

/// Does something to all dead letters that are meant, some hundreds in one commit: those that were there
/// when it began.
async fn some_hundreds(
    adapter: &Adapter,
    meant: Selection,
    work: Work,
) -> Result<u64, OutboxError> {
    let numbers = adapter.outbox(move |outbox| outbox.selected(&meant)).await?;
    let mut done = 0;
    for some in numbers.chunks(TOGETHER) {
        let some = some.to_vec();
        done += adapter.outbox(move |outbox| work(outbox, now_ms(), &some)).await?;
    }
    Ok(done)
}

/// Dead letters of one commit.
const TOGETHER: usize = 500;
