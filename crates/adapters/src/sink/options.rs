//! The kinds of sinks, with the options that each lists beside what reads them.

use super::{amqp, icalendar, jsonl, kafka_options, nats, postgres, server_sent_events, webhook};
use crate::option::KindOfSink;

/// All kinds, also those that this program may have been built without.
pub(crate) const KINDS: &[KindOfSink] = &[
    KindOfSink {
        kind: "postgres",
        about: "Rows of tables in PostgreSQL. Columns that are not mapped take their defaults; what a column would round is \
                a dead letter. With `type = \"time\"`, `timestamptz` holds the moment, and `timestamp` and `date` what \
                clocks of the schema's zone showed.",
        twice: "Rows are upserted, 256 in a transaction that also notes their keys, so the second time changes nothing.",
        name_is: "the table",
        options: postgres::OPTIONS,
    },
    KindOfSink {
        kind: "webhook",
        about: "An HTTP request for every delivery, signed as Standard Webhooks says.",
        twice: "It has the same `webhook-id`, by which the receiver knows it again.",
        name_is: "the event's type, before `.put`, `.mark` or `.delete`",
        options: webhook::OPTIONS,
    },
    KindOfSink {
        kind: "nats",
        about: "Messages in a stream of NATS JetStream, which has to be there.",
        twice: "It has the same message id, and JetStream drops it while its window for duplicates lasts.",
        name_is: "`{name}` in the subject",
        options: nats::OPTIONS,
    },
    KindOfSink {
        kind: "amqp",
        about: "Messages to RabbitMQ, or what else speaks AMQP 0-9-1. Exchange and queues have to be there.",
        twice: "It has the same message id, by which consumers know it again.",
        name_is: "`{name}` in the routing key",
        options: amqp::OPTIONS,
    },
    KindOfSink {
        kind: "kafka",
        about: "Messages in topics of Apache Kafka, in programs built with `--features kafka`.",
        twice: "It has the same header `idempotency-key`, by which consumers know it again.",
        name_is: "`{name}` in the topic",
        options: kafka_options::OPTIONS,
    },
    KindOfSink {
        kind: "icalendar",
        about: "Calendars to subscribe to, at secret addresses. A date alone is a whole day.",
        twice: "It changes nothing.",
        name_is: "a part of the appointments' identifiers",
        options: icalendar::OPTIONS,
    },
    KindOfSink {
        kind: "server_sent_events",
        about: "Rows and what changes, for pages and scripts.",
        twice: "It changes nothing.",
        name_is: "`name` in the events",
        options: server_sent_events::OPTIONS,
    },
    KindOfSink {
        kind: "jsonl",
        about: "A line of JSON for every delivery: to try things out, and to keep what was sent.",
        twice: "A line that is there is not written again.",
        name_is: "`name` in the lines",
        options: jsonl::OPTIONS,
    },
];

/// The kind of sink of this name.
pub fn kind_of_sink(kind: &str) -> Option<&'static KindOfSink> {
    KINDS.iter().find(|known| known.kind == kind)
}
