//! Whether servers of Kafka have the topics of a mapping. Nothing is produced.

use std::collections::BTreeSet;

use rdkafka::producer::Producer;

use super::{Kafka, topic_name};
use crate::delivery::Record;
use crate::mapping::Mapping;
use crate::sink::found::Found;

impl Kafka {
    pub(super) async fn look(&self, mapping: &Mapping) -> Vec<Found> {
        let producer = match self.producer().await {
            Ok(producer) => producer,
            Err(fault) => return vec![Found::wrong(fault.what)],
        };
        let patience = self.timeout;
        // Who asks for one topic may make it by that; who asks for all does not.
        let asked = tokio::task::spawn_blocking(move || {
            producer.client().fetch_metadata(None, patience).map(|told| {
                told.topics().iter().map(|topic| topic.name().to_owned()).collect::<BTreeSet<_>>()
            })
        });
        let topics = match asked.await {
            Ok(Ok(topics)) => topics,
            Ok(Err(error)) => {
                return vec![Found::wrong(format!("the servers cannot be reached: {error}"))];
            }
            Err(error) => return vec![Found::wrong(error.to_string())],
        };
        let look = |name: &String| {
            let topic = topic_name(&self.topic, &Record { name: name.clone(), key: String::new() });
            match topics.contains(&topic) {
                true => Found::fine(format!("the topic {topic:?} is there")),
                false => Found::wrong(format!("there is no topic {topic:?}; create it")),
            }
        };
        mapping.records.iter().map(|record| look(&record.name)).collect()
    }
}
