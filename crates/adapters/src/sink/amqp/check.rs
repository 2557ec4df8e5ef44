//! Whether a server of AMQP has the exchange or queues of a mapping. Nothing is made or published.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::time::timeout;

use super::{Amqp, Line, silent, word};
use crate::delivery::Record;
use crate::mapping::Mapping;
use crate::sink::found::Found;

impl Amqp {
    pub(super) async fn look(&self, mapping: &Mapping) -> Vec<Found> {
        let looking = async {
            let line = match self.connect().await {
                Ok(line) => line,
                Err(fault) => return vec![Found::wrong(fault.what)],
            };
            let mut found = vec![Found::fine("the server lets us in")];
            found.extend(self.look_at(&line, mapping).await);
            line.cut();
            found
        };
        let looked = timeout(self.timeout, looking).await;
        looked.unwrap_or_else(|_| vec![Found::wrong(silent().what)])
    }

    async fn look_at(&self, line: &Line, mapping: &Mapping) -> Vec<Found> {
        let name = self.exchange.as_str();
        if !name.is_empty() {
            let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
            let (exchange, kind) = (self.exchange.clone(), ExchangeKind::Topic);
            let asked =
                line.channel.exchange_declare(exchange, kind, passive, FieldTable::default());
            return vec![match asked.await {
                Ok(()) => Found::fine(format!("the exchange {name:?} is there")),
                Err(error) => Found::wrong(format!(
                    "the exchange {name:?} cannot be used: {error}; create it, and bind a queue to it"
                )),
            }];
        }
        let mut found = Vec::new();
        for record in &mapping.records {
            let one = Record { name: record.name.clone(), key: "check".to_owned() };
            let queue = self.routing_key.fill(&one, word);
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let name = ShortString::from(queue.as_str());
            let Ok(channel) = line.connection.create_channel().await else {
                found.push(Found::wrong("the server takes no second channel"));
                return found;
            };
            found.push(match channel.queue_declare(name, passive, FieldTable::default()).await {
                Ok(_) => Found::fine(format!("the queue {queue:?} is there")),
                Err(error) => Found::wrong(format!(
                    "the queue {queue:?} cannot be used: {error}; create it, or set `exchange`"
                )),
            });
        }
        found
    }
}
