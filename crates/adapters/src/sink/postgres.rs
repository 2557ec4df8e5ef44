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
mod unwritten;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rejoin::value::number::foreign_json;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Found, Held, Sink, SinkError, tls};
use crate::delivery::{Action, Delivery, Fault, FaultClass, IdempotencyKey, Record, Row};
use crate::mapping::{Deletes, Mapping};
use crate::option::Opt;
use crate::secret::SecretRef;
use columns::Columns;
pub use ddl::ddl;
use fault::{fault, fault_for_all, is_for_all};
use fit::fitted;
use session::{Session, quoted};
use unwritten::{Of, Unwritten, are_alike};

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
    /// Without the password, which is looked up whenever it connects, so that it can be changed
    /// without a pause.
    config: Config,
    password: Option<SecretRef>,
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
        let config = options.config()?;
        options.password.as_ref().map(SecretRef::resolve).transpose()?;
        let tls = tls::client(options.root_certificate.map(|it| folder.join(it)))?;
        Ok(Self {
            config,
            password: options.password,
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

    /// How it connects, with the password as it is now.
    fn signed_in(&self) -> Result<Config, Fault> {
        let mut config = self.config.clone();
        if let Some(password) = &self.password {
            let password = password.resolve();
            config.password(password.map_err(|error| Fault::trouble(error.to_string()))?);
        }
        Ok(config)
    }

    /// A fault of signing in, with what it takes to sign in with another password.
    fn with_where_the_password_is(&self, fault: Fault) -> Fault {
        let is_fixed = self.password.as_ref().is_some_and(SecretRef::is_fixed);
        match is_fixed && fault.what.contains(fault::SEE_TO_PASSWORD) {
            true => {
                let restart = "which a process keeps as its environment was when it began: run the \
                               adapters again with another, or write it as file:PATH";
                Fault { what: format!("{}, {restart}", fault.what), ..fault }
            }
            false => fault,
        }
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
                let (config, schema) = (self.signed_in()?, &self.tables.schema);
                let opening = Session::open(&config, &self.tls, schema, adapter, self.patience);
                let silent = |_| Fault::trouble(silent(self.patience).what);
                let opened = timeout(self.patience, opening).await.map_err(silent)?;
                opened.map_err(|fault| self.with_where_the_password_is(fault))?
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

    /// Writes deliveries in one transaction, except those with values that do not fit.
    async fn write(
        &self,
        session: &mut Session,
        some: &[&Delivery],
    ) -> Result<Outcomes, Unwritten> {
        let was_known = session.knows_columns();
        let written = self.try_write(session, some).await;
        if was_known && written.as_ref().is_err_and(|unwritten| unwritten.is_other_type) {
            // The column was changed since.
            session.forget_tables();
            return self.try_write(session, some).await;
        }
        written
    }

    async fn try_write(
        &self,
        session: &mut Session,
        some: &[&Delivery],
    ) -> Result<Outcomes, Unwritten> {
        let items = self.items(session, some).await.map_err(Unwritten::all)?;
        let fit = some.iter().zip(&items);
        let fit: Vec<_> = fit.filter_map(|(it, item)| Some((*it, item.as_ref().ok()?))).collect();
        let mut transaction = session.begin().await.map_err(Unwritten::all)?;
        let mut written = self.tables.write(&mut transaction, &fit).await?.into_iter();
        transaction.commit().await.map_err(Unwritten::some)?;
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
        some: &[&Delivery],
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

    /// Writes deliveries together. If one of them cannot be written it does so in ever smaller parts;
    /// what a table lacks is asked once for all that are written alike.
    async fn write_all(&self, deliveries: &[Delivery]) -> Outcomes {
        let adapter = deliveries.first().map_or("", |delivery| &delivery.adapter);
        let mut outcomes: Vec<Option<Result<(), Fault>>> = vec![None; deliveries.len()];
        let mut parts: Vec<Vec<usize>> = vec![(0..deliveries.len()).collect()];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let some: Vec<_> = part.iter().map(|at| &deliveries[*at]).collect();
            let write = async |session: &mut Session| self.write(session, &some).await;
            let Unwritten { fault, of, .. } =
                match self.with_session(&self.session, adapter, write).await {
                    Ok(written) => {
                        let written = part.iter().zip(written);
                        written.for_each(|(at, outcome)| outcomes[*at] = Some(outcome));
                        continue;
                    }
                    Err(unwritten) => unwritten,
                };
            match of {
                Of::All => {
                    let left = outcomes.iter_mut().filter(|outcome| outcome.is_none());
                    left.for_each(|outcome| *outcome = Some(Err(fault.clone())));
                    break;
                }
                Of::Alike(key) => {
                    let first = part.iter().find(|at| deliveries[**at].key == key);
                    let first = &deliveries[*first.unwrap_or(&part[0])];
                    let is_alike = |at: &usize| are_alike(&deliveries[*at], first);
                    for part in parts.iter_mut().chain([&mut part]) {
                        for at in part.extract_if(.., |at| is_alike(at)) {
                            outcomes[at] = Some(Err(fault.clone()));
                        }
                    }
                    parts.push(part);
                }
                Of::Some if part.len() == 1 => {
                    let fault = self.with_field(fault, &deliveries[part[0]]).await;
                    outcomes[part[0]] = Some(Err(fault));
                }
                Of::Some => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
        }
        // All of them are answered by now.
        let unasked = || Err(silent(self.patience));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unasked)).collect()
    }
}

impl Postgres {
    /// A fault of a row with the field that is at fault. Of a value that does not fit the database does
    /// not say which it is, so it is asked about each alone.
    async fn with_field(&self, fault: Fault, delivery: &Delivery) -> Fault {
        let row = delivery.action.row().filter(|_| fault.field.is_none());
        let Some(row) = row.filter(|_| fault.class == FaultClass::Permanent) else { return fault };
        let table = self.tables.table(&delivery.record.name);
        let find = async |session: &mut Session| {
            let columns = session.columns(&table).await.map_err(|error| fault_for_all(&error))?;
            let alone = |(field, value): (String, Value)| {
                let sql = self.tables.as_held([&field].into_iter(), columns);
                let given = json!([{ field.as_str(): value }]).to_string();
                (field, sql, given)
            };
            let alone: Vec<_> = fitted(row, columns)?.into_iter().map(alone).collect();
            for (field, sql, given) in alone {
                let Err(error) = session.query(&sql, &[&given]).await else { continue };
                return Ok((!is_for_all(&error)).then_some(field));
            }
            Ok::<_, Fault>(None)
        };
        match self.with_session(&self.session, &delivery.adapter, find).await {
            Ok(Some(field)) => {
                let what = format!("{field:?}: {}", fault.what);
                Fault { what, ..fault }.in_field(field)
            }
            // Several together do not fit, or nobody can be asked any more.
            _ => fault,
        }
    }
}

type Outcomes = Vec<Result<(), Fault>>;

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
        let read = async move |session: &mut Session| {
            let mut rows = rows;
            // Those that the table has no place for stay as they are, and nobody else beside them.
            let mut parts = vec![&mut rows[..]];
            while let Some(part) = parts.pop() {
                match self.tables.converted(session, name, part).await {
                    Ok(()) => {}
                    Err(error) if is_for_all(&error) || fault(&error).is_trouble() => {
                        return Err(fault(&error));
                    }
                    Err(_) if part.len() > 1 => {
                        let (first, second) = part.split_at_mut(part.len() / 2);
                        parts.extend([second, first]);
                    }
                    Err(_) => {}
                }
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
    ) -> Result<Outcomes, Unwritten> {
        let deliveries: Vec<&Delivery> = some.iter().map(|(delivery, _)| *delivery).collect();
        let fresh = transaction.note(&deliveries).await.map_err(Unwritten::noting)?;
        let mut statements = BTreeMap::<&str, (&Delivery, Vec<&Row>)>::new();
        for (delivery, item) in some.iter().filter(|(delivery, _)| fresh.contains(&delivery.key)) {
            let (_, rows) = statements.entry(&item.sql).or_insert((delivery, Vec::new()));
            rows.push(&item.values);
        }
        for (sql, (first, rows)) in statements {
            let rows = json!(rows).to_string();
            transaction.execute(sql, &[&rows]).await.map_err(Unwritten::by(first))?;
        }
        let mut stale = deliveries.clone();
        stale.retain(|it| !fresh.contains(&it.key));
        let known = transaction.known(&stale).await.map_err(Unwritten::noting)?;
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

    /// Makes rows what the table would make of them, all or none; those with a value that does not fit
    /// its column stay as they are.
    async fn converted(
        &self,
        session: &mut Session,
        name: &str,
        rows: &mut [Held],
    ) -> Result<(), Error> {
        let columns = session.columns(&self.table(name)).await?;
        let given: Vec<_> =
            rows.iter().map(|held| fitted(held.row.as_ref()?, columns).ok()).collect();
        let names: BTreeSet<_> = given.iter().flatten().flat_map(Row::keys).collect();
        if names.is_empty() {
            return Ok(());
        }
        let sql = self.as_held(names.into_iter(), columns);
        for found in session.query(&sql, &[&json!(given).to_string()]).await? {
            let (at, text): (i64, &str) = (found.try_get(0)?, found.try_get(1)?);
            let at = usize::try_from(at - 1).unwrap_or(usize::MAX);
            let Some(row) = rows.get_mut(at).and_then(|held| held.row.as_mut()) else { continue };
            let mut converted = fields(text);
            row.iter_mut().for_each(|(field, value)| {
                *value = converted.remove(field).unwrap_or_default();
            });
        }
        Ok(())
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
