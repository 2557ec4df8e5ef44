//! Whether a server of NATS has a stream for a mapping's messages. Nothing is published.

use tokio::time::timeout;

use super::{Nats, SILENT, word};
use crate::delivery::Record;
use crate::mapping::Mapping;
use crate::sink::found::Found;

impl Nats {
    pub(super) async fn look(&self, mapping: &Mapping) -> Vec<Found> {
        let looking = async {
            let line = match self.connect().await {
                Ok(line) => line,
                Err(fault) => return vec![Found::wrong(fault.what)],
            };
            let mut found = vec![Found::fine("the server lets us in")];
            for record in &mapping.records {
                let one = Record { name: record.name.clone(), key: "check".to_owned() };
                let subject = self.subject.fill(&one, word);
                found.push(match line.context.stream_by_subject(subject).await {
                    Ok(stream) => {
                        Found::fine(format!("{} go to the stream {stream}", record.name))
                    }
                    Err(error) => Found::wrong(format!(
                        "no stream takes {:?}: {error}; create one: `nats stream add` with that subject",
                        self.subject.shown(&one, word)
                    )),
                });
            }
            found
        };
        let looked = timeout(self.timeout, looking).await;
        looked.unwrap_or_else(|_| vec![Found::wrong(SILENT)])
    }
}
