//! The options of adapters, beside the forms in `config` that read them.

use crate::option::{Opt, Options};

/// The tables of the file, but for those of sinks.
pub(crate) const TABLES: &[Options] = &[
    Options { table: "[replica]", about: "What the adapters follow.", options: REPLICA },
    Options {
        table: "[adapter.NAME]",
        about: "One adapter: whose documents go where, and how soon. Its name is letters, digits, `-` and `_`.",
        options: ADAPTER,
    },
    Options {
        table: "[adapter.NAME.retry]",
        about: "When a delivery that failed is tried again.",
        options: RETRY,
    },
    Options {
        table: "[[adapter.NAME.record]]",
        about: "One kind of row that documents become. An adapter may have several.",
        options: RECORD,
    },
    Options {
        table: "[adapter.NAME.record.fields]",
        about: "What a row holds: `NAME = { from = \"FIELD\" }` for each field, with these options.",
        options: FIELD,
    },
];

/// Options of `[replica]`.
pub(crate) const REPLICA: &[Opt] = &[
    Opt::required("data", "path", "\"adapters\"", "the folder with this replica and the outboxes"),
    Opt::optional(
        "relay",
        "text",
        "\"ws://127.0.0.1:4455\"",
        "the relay's address; may be left out for `rejoin relay --adapters`",
    ),
    Opt::optional(
        "token",
        "secret",
        "\"file:adapters.token\"",
        "the token to sign in with at the relay; one in a file is read again before it ends",
    ),
    Opt::optional(
        "ca",
        "path",
        "\"relay.pem\"",
        "a certificate in PEM that the relay is trusted by, beside those of the system",
    ),
    Opt::required("space", "text", "\"main\"", "the space whose documents are followed"),
    Opt::optional(
        "metrics",
        "address",
        "\"127.0.0.1:9464\"",
        "where metrics and deliveries are told over HTTP, on this machine",
    ),
];

const ADAPTER: &[Opt] = &[
    Opt::required("collection", "text", "\"jobs\"", "whose documents it carries"),
    Opt::with_default(
        "source",
        "`documents` or `reviews`",
        "\"documents\"",
        "what it carries of them; a review is what people have to decide",
    ),
    Opt::with_default(
        "mode",
        "`state` or `event`",
        "\"state\"",
        "the last row, or every difference one after the other",
    ),
    Opt::with_default(
        "class",
        "`now`, `soon` or `later`",
        "\"now\"",
        "how soon; `later` needs `every` or `cron`",
    ),
    Opt::optional(
        "every",
        "duration",
        "\"30s\"",
        "how long changes are collected: of `soon` 1 s to 5 min, and 30 s unless it is said",
    ),
    Opt::optional("cron", "text", "\"0 2 * * *\"", "the times of `later`, in UTC"),
    Opt::with_default("concurrency", "number", "8", "deliveries under way at once, 1 to 256"),
    Opt::optional("rate", "number", "50", "deliveries begun in a second at most"),
    Opt::with_default(
        "waiting_max",
        "number",
        "1000000",
        "deliveries that may wait; beyond that documents wait",
    ),
    Opt::optional(
        "late_after",
        "duration",
        "\"5min\"",
        "a delivery that waits longer is late; unless it is said, five minutes after its turn",
    ),
    Opt::with_default(
        "deletes",
        "`delete` or `mark`",
        "\"delete\"",
        "what becomes of rows that are gone; those of erased documents are deleted either way",
    ),
    Opt::optional(
        "ttl",
        "duration",
        "\"14d\"",
        "how long marked rows are remembered; 14 days unless it is said",
    ),
    Opt::optional(
        "reconcile",
        "duration or cron",
        "\"0 3 * * *\"",
        "when everything is compared with the target and repaired",
    ),
    Opt::with_default(
        "on_poison",
        "`continue` or `hold`",
        "\"continue\"",
        "whether a document's later deliveries wait for a dead letter",
    ),
    Opt::optional("salt", "secret", "\"env:SALT\"", "what masked hashes are mixed with"),
];

const RETRY: &[Opt] = &[
    Opt::optional(
        "schedule",
        "list of durations",
        "[\"5s\", \"5min\"]",
        "the wait after each failed attempt; nine from 5 s to 24 h, 75 h in all, unless it is said",
    ),
    Opt::with_default(
        "jitter",
        "number",
        "0.2",
        "the part of a wait that is left to chance, 0 to 1",
    ),
    Opt::with_default(
        "disable_after",
        "duration",
        "\"5d\"",
        "how long nothing but failures may last before the target is given up",
    ),
];

const RECORD: &[Opt] = &[
    Opt::required(
        "name",
        "text",
        "\"jobs\"",
        "the row's kind outside: a table, a subject, an event type",
    ),
    Opt::optional("each", "path", "\"parts\"", "the list or map of which every item is a row"),
    Opt::required(
        "key",
        "template",
        "\"{key}\"",
        "the row's key: `{key}` or `{id}` of the document, `{item}`, or `{FIELD}`",
    ),
];

const FIELD: &[Opt] = &[
    Opt::optional(
        "from",
        "path",
        "\"status\"",
        "where the value comes from: in the item with `each`, and with `/` before it in the document",
    ),
    Opt::optional("constant", "value", "\"rejoin\"", "what it always is, in the place of `from`"),
    Opt::optional(
        "type",
        "`string`, `integer`, `number`, `boolean`, `time` or `json`",
        "\"time\"",
        "what it is outside; a text that spells such a value is read",
    ),
    Opt::optional(
        "map",
        "table",
        "{ open = \"OPEN\" }",
        "what values are called outside; others are no row",
    ),
    Opt::optional("default", "value", "0", "what it is where the document has nothing"),
    Opt::with_default("required", "boolean", "false", "whether a row without it is none"),
    Opt::optional(
        "mask",
        "`drop`, `hash`, `last4` or `null`",
        "\"last4\"",
        "what is hidden of it before it is stored anywhere",
    ),
    Opt::with_default(
        "held",
        "`agreed`, `omit` or `{ constant = .. }`",
        "\"agreed\"",
        "what stands there while it is under review",
    ),
];
