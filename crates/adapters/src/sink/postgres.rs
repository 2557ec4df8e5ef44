//! Deliveries as rows of tables in [PostgreSQL](https://www.postgresql.org), a batch in each
//! transaction. A record's name is the table, its fields are the columns.
//!
//! ```toml
//! [adapter.reports]
//! collection = "jobs"
//! deletes    = "mark"
//! [adapter.reports.sink]
//! kind           = "postgres"
//! url            = "postgresql://reports@db.example:5432/reports"
//! password       = "env:REPORTS_PASSWORD"
//! key_column     = "id"
//! deleted_column = "deleted_at"
//! ```
//!
//! The key column needs a primary key or a unique constraint. PostgreSQL itself turns each row's
//! JSON into what the columns are, after `fit` saw to it that it changes no value by that. Columns
//! that the mapping does not name take their defaults. In the same transaction the table `rejoin_deliveries`, which the
//! sink makes in the same schema if it may, notes which
//! delivery each row came from, so a delivery that is handed over again changes nothing, and an
//! older one never undoes a newer.

mod check;
mod columns;
mod ddl;
mod fault;
mod fit;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rejoin::number::foreign_json;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Fault, Found, Held, Sink, SinkError, tls};
use crate::delivery::{Action, Delivery, IdempotencyKey, Record, Row};
use crate::mapping::{Deletes, Mapping};
use crate::reference::Opt;
use crate::secret::SecretRef;
use columns::Columns;
pub use ddl::ddl;
use fault::{fault, is_for_all};
use fit::fitted;
use session::{Session, quoted};

/// How a [`Postgres`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where the database is, `postgresql://USER@HOST:PORT/DATABASE`. Unless the host is this machine,
    /// or `?sslmode=` says otherwise, the connection must be encrypted.
    pub url: String,
    /// The user's password.
    pub password: Option<SecretRef>,
    /// The schema that the tables are in; `public` if that is not said.
    #[serde(default = "schema")]
    pub schema: String,
    /// The column with each row's key; `key` if that is not said.
    #[serde(default = "key_column")]
    pub key_column: String,
    /// The column with the time when a row was found gone, for mappings that mark such rows.
    pub deleted_column: Option<String>,
    /// Seconds a statement may take; 20 if that is not said.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
    /// A certificate, PEM, of whoever vouches for the server besides the well-known ones.
    pub root_certificate: Option<PathBuf>,
}

/// The options, for people.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::required(
        "url",
        "address",
        "\"postgresql://rejoin@127.0.0.1:5432/postgres\"",
        "`postgresql://USER@HOST:PORT/DATABASE`; encrypted unless the host is this machine or `?sslmode=` says otherwise",
    ),
    Opt::optional("password", "secret", "\"env:POSTGRES_PASSWORD\"", "the user's password"),
    Opt::with_default("schema", "text", "\"public\"", "the schema that the tables are in"),
    Opt::with_default(
        "key_column",
        "text",
        "\"key\"",
        "the column with each row's key, which is unique",
    ),
    Opt::optional(
        "deleted_column",
        "text",
        "\"deleted_at\"",
        "the column with the time when a row was found gone, for `deletes = \"mark\"`",
    ),
    Opt::with_default("timeout_s", "number", "20", "seconds a statement may take"),
    Opt::optional(
        "root_certificate",
        "path",
        "\"root.pem\"",
        "a certificate, PEM, of whoever vouches for the server besides the well-known ones",
    ),
];

fn schema() -> String {
    "public".to_owned()
}

fn key_column() -> String {
    "key".to_owned()
}

fn timeout_s() -> u64 {
    20
}

impl Options {
    /// Whether they go with what a mapping does to rows that are gone.
    pub(super) fn check(&self, deletes: Deletes) -> Result<(), SinkError> {
        self.config()?;
        if matches!(deletes, Deletes::Mark { .. }) && self.deleted_column.is_none() {
            let what = "rows that are gone are to be marked, and the sink does not say where; set \
                        deleted_column = \"deleted_at\", or deletes = \"delete\"";
            return Err(SinkError::Setup { what: what.to_owned() });
        }
        Ok(())
    }

    fn config(&self) -> Result<Config, SinkError> {
        let wrong = |what: String| SinkError::Setup { what };
        let mut config = self.url.parse::<Config>().map_err(|error| {
            wrong(format!(
                "the url is no address of a database: {error}; write \
                 postgresql://USER@HOST:PORT/DATABASE"
            ))
        })?;
        if config.get_password().is_some() {
            let what = "secrets are not written in the url; set password = \"env:NAME\"";
            return Err(wrong(what.to_owned()));
        }
        let is_here = |host: &Host| match host {
            Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        if !config.get_hosts().iter().all(is_here) && !self.url.contains("sslmode=") {
            config.ssl_mode(SslMode::Require);
        }
        let patience = Duration::from_secs(self.timeout_s.max(1));
        config.connect_timeout(patience).keepalives(true).tcp_user_timeout(patience);
        Ok(config)
    }
}

/// Writes batches of deliveries over one connection, which is made when there is something to write
/// and made again after it broke.
pub struct Postgres {
    config: Config,
    tls: MakeRustlsConnect,
    tables: Tables,
    patience: Duration,
    /// The connection, while nobody uses it. Whoever is cut off in the middle leaves none.
    session: Mutex<Option<Session>>,
    /// Another one, so that nobody waits for who reads a table from end to end.
    reader: Mutex<Option<Session>>,
}

/// Where rows are.
#[derive(Debug, Clone)]
struct Tables {
    schema: String,
    key: String,
    deleted: Option<String>,
}

/// Without the password.
impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Postgres {
    /// A sink for these options. Relative files are in `folder`.
    ///
    /// # Errors
    /// The url is none, the password is missing, or the certificate cannot be read.
    pub fn open(options: Options, folder: &Path) -> Result<Self, SinkError> {
        let mut config = options.config()?;
        if let Some(password) = &options.password {
            config.password(password.resolve()?);
        }
        let tls = tls::client(options.root_certificate.map(|it| folder.join(it)))?;
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls),
            tables: Tables {
                schema: options.schema,
                key: options.key_column,
                deleted: options.deleted_column,
            },
            patience: Duration::from_secs(options.timeout_s.max(1)),
            session: Mutex::default(),
            reader: Mutex::default(),
        })
    }

    /// Does something with a connection. Whoever is cut off in the middle leaves none behind.
    async fn with_session<T, E: From<Fault>>(
        &self,
        place: &Mutex<Option<Session>>,
        adapter: &str,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut place = place.lock().await;
        let mut session = match place.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => {
                let schema = &self.tables.schema;
                let opening =
                    Session::open(&self.config, &self.tls, schema, adapter, self.patience);
                timeout(self.patience, opening).await.map_err(|_| silent(self.patience))??
            }
        };
        // The server gives up first, so nothing is written later.
        let patience = self.patience.saturating_mul(2);
        let Ok(done) = timeout(patience, work(&mut session)).await else {
            return Err(silent(self.patience).into());
        };
        if done.is_err() {
            // Tables may have changed.
            session.forget_tables();
        }
        *place = Some(session);
        done
    }

    /// Writes deliveries in one transaction, but for those with values that do not fit.
    async fn write(&self, session: &mut Session, some: &[Delivery]) -> Result<Outcomes, Unwritten> {
        let was_known = session.knows_columns();
        let mut written = self.try_write(session, some).await;
        let is_other_type =
            |error: &Error| was_known && error.code() == Some(&SqlState::DATATYPE_MISMATCH);
        if written.as_ref().is_err_and(is_other_type) {
            // The column was changed since.
            session.forget_tables();
            written = self.try_write(session, some).await;
        }
        written.map_err(|error| Unwritten { fault: fault(&error), is_for_all: is_for_all(&error) })
    }

    async fn try_write(&self, session: &mut Session, some: &[Delivery]) -> Result<Outcomes, Error> {
        let items = self.items(session, some).await?;
        let taken: Vec<_> = some
            .iter()
            .zip(&items)
            .filter_map(|(delivery, item)| Some((delivery, item.as_ref().ok()?)))
            .collect();
        let mut transaction = session.begin().await?;
        let mut written = self.tables.write(&mut transaction, &taken).await?.into_iter();
        transaction.commit().await?;
        let outcome = |item: Result<Item, Fault>| match item {
            Ok(_) => written.next().unwrap_or(Ok(())),
            Err(fault) => Err(fault),
        };
        Ok(items.into_iter().map(outcome).collect())
    }

    /// What is to be written of each delivery, if its values fit their columns. None is called unfit by
    /// what the columns were once.
    async fn items(
        &self,
        session: &mut Session,
        some: &[Delivery],
    ) -> Result<Vec<Result<Item, Fault>>, Error> {
        let was_known = session.knows_columns();
        let mut items = Vec::with_capacity(some.len());
        for delivery in some {
            let columns = session.columns(&self.tables.table(&delivery.record.name)).await?;
            items.push(self.tables.item(delivery, columns));
        }
        if was_known && items.iter().any(Result::is_err) {
            session.forget_tables();
            return Box::pin(self.items(session, some)).await;
        }
        Ok(items)
    }

    /// Writes deliveries together, or, if one of them cannot be written, in ever smaller parts.
    async fn write_all(&self, deliveries: &[Delivery]) -> Outcomes {
        let adapter = deliveries.first().map_or("", |delivery| &delivery.adapter);
        let mut outcomes = Vec::with_capacity(deliveries.len());
        let mut parts = vec![deliveries];
        while let Some(part) = parts.pop() {
            let write = async |session: &mut Session| self.write(session, part).await;
            let written = self.with_session(&self.session, adapter, write).await;
            match written {
                Ok(written) => outcomes.extend(written),
                Err(Unwritten { fault, is_for_all: true }) => {
                    let rest: usize = parts.drain(..).map(<[Delivery]>::len).sum();
                    outcomes.extend(std::iter::repeat_n(Err(fault), part.len() + rest));
                }
                Err(Unwritten { fault, .. }) if part.len() == 1 => outcomes.push(Err(fault)),
                Err(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        outcomes
    }
}

type Outcomes = Vec<Result<(), Fault>>;

/// Why some deliveries were not written together.
struct Unwritten {
    fault: Fault,
    /// Whether none of them can be written now.
    is_for_all: bool,
}

impl From<Fault> for Unwritten {
    fn from(fault: Fault) -> Self {
        Self { fault, is_for_all: true }
    }
}

fn silent(patience: Duration) -> Fault {
    Fault::transient(format!("the database did not answer within {} s", patience.as_secs()))
}

impl Sink for Postgres {
    fn batch(&self) -> usize {
        BATCH
    }

    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        self.write_all(deliveries).boxed()
    }

    fn check<'a>(&'a self, mapping: &'a Mapping, _send: bool) -> BoxFuture<'a, Vec<Found>> {
        self.look(mapping).boxed()
    }

    fn scan<'a>(
        &'a self,
        name: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<Held>>, Fault>> {
        let (sql, limit) = (self.tables.scan(name), i64::try_from(limit).unwrap_or(i64::MAX));
        let read = async move |session: &mut Session| {
            let rows = session.query(&sql, &[&after.unwrap_or_default(), &limit]).await;
            let rows = rows.map_err(|error| fault(&error))?;
            rows.iter().map(|row| held(name, row).map_err(|error| fault(&error))).collect()
        };
        async move { Ok(Some(self.with_session(&self.reader, "reconcile", read).await?)) }.boxed()
    }

    fn as_held<'a>(
        &'a self,
        name: &'a str,
        rows: Vec<Held>,
    ) -> BoxFuture<'a, Result<Vec<Held>, Fault>> {
        let table = self.tables.table(name);
        let read = async move |session: &mut Session| {
            let mut rows = rows;
            let columns = session.columns(&table).await.map_err(|error| fault(&error))?;
            // One that the table has no place for stays as it is.
            let fit = |held: &Held| fitted(held.row.as_ref()?, columns).ok();
            let given: Vec<_> = rows.iter().map(fit).collect();
            let names: BTreeSet<_> = given.iter().flatten().flat_map(Row::keys).collect();
            if names.is_empty() {
                return Ok(rows);
            }
            let sql = self.tables.as_held(names.into_iter(), columns);
            let found = match session.query(&sql, &[&json!(given).to_string()]).await {
                Ok(found) => found,
                Err(error) if is_for_all(&error) => return Err(fault(&error)),
                // Neither do those read with it that only the database can tell of.
                Err(_) => return Ok(rows),
            };
            for found in found {
                let at: i64 = found.try_get(0).map_err(|error| fault(&error))?;
                let text: &str = found.try_get(1).map_err(|error| fault(&error))?;
                let at = usize::try_from(at - 1).unwrap_or(usize::MAX);
                let Some(row) = rows.get_mut(at).and_then(|held| held.row.as_mut()) else {
                    continue;
                };
                let mut converted = fields(text);
                row.iter_mut().for_each(|(field, value)| {
                    *value = converted.remove(field).unwrap_or_default();
                });
            }
            Ok(rows)
        };
        self.with_session(&self.reader, "reconcile", read).boxed()
    }
}

/// A row of [`Tables::scan`].
fn held(name: &str, row: &tokio_postgres::Row) -> Result<Held, Error> {
    let record = Record { name: name.to_owned(), key: row.try_get(0)? };
    let (text, is_deleted): (&str, bool) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Held { record, row: (!is_deleted).then(|| fields(text)) })
}

/// A row that the database printed as JSON. A `numeric` may have more digits than a double, and must
/// not be taken for the number that a double would round it to.
fn fields(row: &str) -> Map<String, Value> {
    match foreign_json(row) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

impl Tables {
    fn table(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(name))
    }

    /// Writes deliveries, each of another row, and says what became of each.
    async fn write(
        &self,
        transaction: &mut session::Open<'_>,
        some: &[(&Delivery, &Item)],
    ) -> Result<Outcomes, Error> {
        let deliveries: Vec<&Delivery> = some.iter().map(|(delivery, _)| *delivery).collect();
        let fresh = transaction.note(&deliveries).await?;
        let mut statements = BTreeMap::<&str, Vec<&Row>>::new();
        for (_, item) in some.iter().filter(|(delivery, _)| fresh.contains(&delivery.key)) {
            statements.entry(&item.sql).or_default().push(&item.values);
        }
        for (sql, items) in statements {
            transaction.execute(sql, &[&json!(items).to_string()]).await?;
        }
        let mut stale = deliveries.clone();
        stale.retain(|it| !fresh.contains(&it.key));
        let known = transaction.known(&stale).await?;
        Ok(deliveries.iter().map(|delivery| self.outcome(delivery, &known)).collect())
    }

    /// What a delivery came to, given what the deliveries are that it is older than.
    fn outcome(
        &self,
        delivery: &Delivery,
        known: &BTreeMap<IdempotencyKey, i64>,
    ) -> Result<(), Fault> {
        match known.get(&delivery.key) {
            None => Ok(()),
            Some(seq) => Err(Fault::permanent(format!(
                "the table holds delivery {seq} of this document already, which is newer than {}; \
                 if the outbox was restored from a copy, `rejoin adapters backfill {}` sends \
                 everything anew",
                delivery.seq, delivery.adapter
            ))),
        }
    }

    /// What is to be written of a delivery, given the columns of its table.
    ///
    /// # Errors
    /// A value does not fit its column.
    fn item(&self, delivery: &Delivery, columns: &Columns) -> Result<Item, Fault> {
        let (table, key) = (self.table(&delivery.record.name), quoted(&self.key));
        let mut values = match &delivery.action {
            Action::Put(row) => fitted(row, columns)?,
            Action::Mark { .. } | Action::Delete => Row::new(),
        };
        values.remove(&self.key);
        match &delivery.action {
            Action::Put(_) => {
                values.extend(self.deleted.iter().map(|column| (column.clone(), Value::Null)));
            }
            Action::Mark { deleted_ms } => {
                let column = self.deleted.as_deref().unwrap_or("deleted_at");
                let time = chrono::DateTime::from_timestamp_millis(deleted_ms.cast_signed());
                values.insert(column.to_owned(), json!(time.map(|time| time.to_rfc3339())));
            }
            Action::Delete => {}
        }
        let names: Vec<String> = values.keys().map(|column| quoted(column)).collect();
        let list = |of: &dyn Fn(&String) -> String| names.iter().map(of).collect::<Vec<_>>();
        values.insert(self.key.clone(), delivery.record.key.clone().into());
        let given = recordset(values.keys(), columns);
        let sql = match &delivery.action {
            Action::Put(_) => {
                let change = match names.is_empty() {
                    true => "NOTHING".to_owned(),
                    false => {
                        let set = list(&|it| format!("{it} = EXCLUDED.{it}"));
                        format!("UPDATE SET {}", set.join(", "))
                    }
                };
                let (plain, read) =
                    (list(&|it| format!(", {it}")), list(&|it| format!(", g.{it}")));
                format!(
                    "INSERT INTO {table} ({key}{}) SELECT g.{key}{} FROM {given} \
                     ON CONFLICT ({key}) DO {change}",
                    plain.concat(),
                    read.concat()
                )
            }
            Action::Mark { .. } => {
                let set = list(&|it| format!("{it} = g.{it}")).join(", ");
                format!("UPDATE {table} AS held SET {set} FROM {given} WHERE held.{key} = g.{key}")
            }
            Action::Delete => {
                format!("DELETE FROM {table} AS held USING {given} WHERE held.{key} = g.{key}")
            }
        };
        Ok(Item { sql, values })
    }

    /// Key, fields as JSON, and whether a row is marked as deleted; of the rows after a key, as many
    /// as are wanted, in the order of the keys' bytes.
    fn scan(&self, name: &str) -> String {
        let (table, key) = (self.table(name), quoted(&self.key));
        let deleted = match &self.deleted {
            Some(column) => format!("held.{} IS NOT NULL", quoted(column)),
            None => "FALSE".to_owned(),
        };
        format!(
            "SELECT held.{key}::text, to_jsonb(held)::text, {deleted} FROM {table} AS held \
             WHERE held.{key}::text COLLATE \"C\" > $1 \
             ORDER BY held.{key}::text COLLATE \"C\" LIMIT $2"
        )
    }

    /// Rows in JSON, as these fields' columns would hold them: the place of each in the list, and its
    /// fields.
    fn as_held<'a>(&self, fields: impl Iterator<Item = &'a String>, columns: &Columns) -> String {
        format!(
            "SELECT given.at, to_jsonb(g)::text \
             FROM jsonb_array_elements(CAST($1::text AS jsonb)) WITH ORDINALITY AS given(row, at), \
             jsonb_to_record(given.row) AS g({}) WHERE jsonb_typeof(given.row) = 'object'",
            typed(fields, columns)
        )
    }
}

/// What is written of a delivery.
struct Item {
    /// The statement. Its one parameter is a list of values, in JSON.
    sql: String,
    /// What it takes for this delivery: columns and their values.
    values: Row,
}

/// The rows of the parameter, with these columns and no others: what is not named takes its default.
fn recordset<'a>(names: impl Iterator<Item = &'a String>, columns: &Columns) -> String {
    format!("jsonb_to_recordset(CAST($1::text AS jsonb)) AS g({})", typed(names, columns))
}

/// Columns with their types. Of one that is not there the database tells when it is written to.
fn typed<'a>(names: impl Iterator<Item = &'a String>, columns: &Columns) -> String {
    let declared = |name| columns.get(name).map_or("text", |column| &column.declared);
    let columns: Vec<_> =
        names.map(|name: &String| format!("{} {}", quoted(name), declared(name))).collect();
    columns.join(", ")
}

/// Deliveries in one transaction.
const BATCH: usize = 256;
