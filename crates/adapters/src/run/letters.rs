//! Dead letters as people look at them, replay them and let them be: one, or all that are meant.

use super::answer::{Answer, Discarded, Letter, Replayed};
use super::error::OperateError;
use super::operate::Operator;
use super::{Adapter, Letters};
use crate::clock::now_ms;
use crate::delivery::Message;
use crate::outbox::{DeadLetter, Outbox, OutboxError, Selection};

/// Does something to dead letters in one commit, and tells to how many.
type Work = fn(&mut Outbox, u64, &[u64]) -> Result<u64, OutboxError>;

/// Dead letters that something was done to.
enum Done {
    /// The one that was meant, as it was.
    One(Box<Letter>),
    /// So many.
    All(u64),
}

impl Operator {
    pub(super) async fn dead_letters(
        &self,
        adapters: Vec<&Adapter>,
        meant: Selection,
    ) -> Result<Vec<Letter>, OperateError> {
        let mut all = Vec::new();
        for adapter in adapters {
            let letters = adapter.outbox(|outbox| outbox.dead_letters()).await?;
            let letters = letters.into_iter().filter(|(_, letter)| meant.means(letter));
            all.extend(letters.map(|(number, it)| self.letter(adapter, number, it)));
        }
        Ok(all)
    }

    /// Delivers dead letters after all.
    pub(super) async fn replay(
        &self,
        adapter: &Adapter,
        letters: &Letters,
    ) -> Result<Answer, OperateError> {
        let done = self.work(adapter, letters, Outbox::replay_all).await?;
        // Rows that documents did not become are projected again.
        adapter.again.notify_one();
        Ok(match done {
            Done::One(letter) => Answer::Replayed(letter),
            Done::All(replayed) => {
                Answer::ReplayedAll(Replayed { adapter: adapter.name.clone(), replayed })
            }
        })
    }

    /// Lets dead letters be.
    pub(super) async fn discard(
        &self,
        adapter: &Adapter,
        letters: &Letters,
    ) -> Result<Answer, OperateError> {
        Ok(match self.work(adapter, letters, Outbox::discard_all).await? {
            Done::One(letter) => Answer::Discarded(letter),
            Done::All(discarded) => {
                Answer::DiscardedAll(Discarded { adapter: adapter.name.clone(), discarded })
            }
        })
    }

    /// Does something to one dead letter, which must be there, or to all that are meant.
    async fn work(
        &self,
        adapter: &Adapter,
        letters: &Letters,
        work: Work,
    ) -> Result<Done, OperateError> {
        let done = match letters {
            Letters::One { number } => {
                let number = *number;
                let letter = adapter.outbox(move |outbox| {
                    let letter = outbox.dead_letter(number)?;
                    work(outbox, now_ms(), &[number])?;
                    Ok(letter)
                });
                Done::One(Box::new(self.letter(adapter, number, letter.await?)))
            }
            Letters::All { meant } => Done::All(some_hundreds(adapter, *meant, work).await?),
        };
        adapter.due.notify_one();
        Ok(done)
    }

    fn letter(&self, adapter: &Adapter, number: u64, letter: DeadLetter) -> Letter {
        // As it was to be delivered: masked as the mapping masks.
        let row = letter.delivery.as_ref().and_then(|delivery| delivery.action.row());
        let value = row.zip(letter.field.as_ref()).and_then(|(row, field)| row.get(field));
        Letter {
            adapter: adapter.name.clone(),
            number,
            class: letter.class,
            value: value.cloned(),
            fault: letter.fault,
            field: letter.field,
            answer: letter.answer,
            attempts: letter.attempts,
            document: letter.document.to_string(),
            key: self.key(&letter.document),
            name: letter.record.name,
            record: letter.record.key,
            at_ms: letter.at_ms,
            heads: letter.heads.iter().map(ToString::to_string).collect(),
            delivery: letter.delivery.as_ref().map(Message::from),
        }
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
