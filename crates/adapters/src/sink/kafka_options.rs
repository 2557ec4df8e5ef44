//! The options of the sink for Kafka. They are told also by programs that were built without it.

use super::route::TIMEOUT_S;
use crate::option::Opt;

pub(super) const OPTIONS: &[Opt] = &[
    Opt::required(
        "brokers",
        "text",
        "\"127.0.0.1:9092\"",
        "servers to begin with, `HOST:PORT`, with commas between",
    ),
    Opt::with_default(
        "topic",
        "template",
        "\"rejoin.{name}\"",
        "the topic, with `{name}` of the record",
    ),
    TIMEOUT_S,
];
