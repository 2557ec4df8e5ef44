//! A connection to the database, and what every transaction on it does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Row, Statement, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::columns::{self, Column, Columns};
use super::fault::fault_for_all;
use crate::delivery::{Delivery, Fault, IdempotencyKey};

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// One connection.
pub(super) struct Session {
    client: Client,
    statements: HashMap<String, Statement>,
    /// The columns of the tables that were written to.
    columns: HashMap<String, Columns>,
    /// The table that notes deliveries.
    noted: String,
}

impl Session {
    /// Connects, and makes the table that notes deliveries in a schema if it is missing.
    pub(super) async fn open(
        config: &Config,
        tls: &MakeRustlsConnect,
        schema: &str,
        adapter: &str,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let mut config = config.clone();
        if config.get_application_name().is_none() {
            // Who reads the database's changes back knows ours by it.
            config.application_name(format!("rejoin-{adapter}"));
        }
        let (client, connection) =
            config.connect(tls.clone()).await.map_err(|error| fault_for_all(&error))?;
        // It ends with the client, or with an error that the next statement tells of.
        tokio::spawn(connection);
        let noted = format!("{}.rejoin_deliveries", quoted(schema));
        let session = Self { client, statements: HashMap::new(), columns: HashMap::new(), noted };
        // What is in the way here is never the row's fault.
        let prepared = session.prepare_database(patience).await;
        prepared.map_err(|error| fault_for_all(&error))?;
        Ok(session)
    }

    async fn prepare_database(&self, patience: Duration) -> Result<(), Error> {
        let ms = patience.as_millis();
        let settings = format!(
            "SET TimeZone = 'UTC'; SET statement_timeout = {ms}; SET lock_timeout = {ms}; \
             SET idle_in_transaction_session_timeout = {ms}"
        );
        self.client.batch_execute(&settings).await?;
        let asked = "SELECT to_regclass($1::text)::text";
        let found = self.client.query_one(asked, &[&self.noted]).await?;
        if found.try_get::<_, Option<&str>>(0)?.is_none() {
            self.client.batch_execute(&make_table(&self.noted)).await?;
        }
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Forgets what depends on how tables are made.
    pub(super) fn forget_tables(&mut self) {
        self.statements.clear();
        self.columns.clear();
    }

    /// Whether columns of any table are known from before.
    pub(super) fn knows_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// The columns of a table, as they were when they were asked for last.
    pub(super) async fn columns(&mut self, table: &str) -> Result<&Columns, Error> {
        if !self.columns.contains_key(table) {
            let rows = self.client.query(columns::SQL, &[&table]).await?;
            let found = rows.iter().map(Column::read).collect::<Result<_, _>>()?;
            self.columns.insert(table.to_owned(), found);
        }
        Ok(&self.columns[table])
    }

    pub(super) async fn query(
        &mut self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Error> {
        let statement = match self.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare(sql).await?;
                self.statements.insert(sql.to_owned(), statement.clone());
                statement
            }
        };
        self.client.query(&statement, parameters).await
    }

    pub(super) async fn begin(&mut self) -> Result<Open<'_>, Error> {
        let transaction = self.client.transaction().await?;
        Ok(Open { transaction, statements: &mut self.statements, noted: &self.noted })
    }
}

/// A transaction. Unless it is committed, nothing of it happened.
pub(super) struct Open<'a> {
    transaction: Transaction<'a>,
    statements: &'a mut HashMap<String, Statement>,
    noted: &'a str,
}

impl Open<'_> {
    async fn prepared(&mut self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.transaction.prepare(sql).await?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<u64, Error> {
        let statement = self.prepared(sql).await?;
        self.transaction.execute(&statement, parameters).await
    }

    pub(super) async fn commit(self) -> Result<(), Error> {
        self.transaction.commit().await
    }

    /// Notes deliveries. Returns the keys of those that are newer than what was noted of their rows.
    pub(super) async fn note(
        &mut self,
        some: &[&Delivery],
    ) -> Result<BTreeSet<IdempotencyKey>, Error> {
        let statement = self.prepared(&in_table(NOTE, self.noted)).await?;
        let items = Value::Array(some.iter().map(|it| noted(it)).collect()).to_string();
        let rows = self.transaction.query(&statement, &[&items]).await?;
        rows.iter().map(|row| Ok(IdempotencyKey(row.try_get(0)?))).collect()
    }

    /// Of deliveries that are not newer than what was noted of their rows, those that are not the
    /// very same, with the number that was noted.
    pub(super) async fn known(
        &mut self,
        stale: &[&Delivery],
    ) -> Result<BTreeMap<IdempotencyKey, i64>, Error> {
        if stale.is_empty() {
            return Ok(BTreeMap::new());
        }
        let statement = self.prepared(&in_table(KNOWN, self.noted)).await?;
        let items = Value::Array(stale.iter().map(|it| noted(it)).collect()).to_string();
        let rows = self.transaction.query(&statement, &[&items]).await?;
        rows.iter().map(|row| Ok((IdempotencyKey(row.try_get(0)?), row.try_get(1)?))).collect()
    }
}

/// A delivery as [`NOTE`] takes it.
fn noted(delivery: &Delivery) -> Value {
    let heads: Vec<_> = delivery.heads.iter().map(ToString::to_string).collect();
    json!({
        "adapter": delivery.adapter,
        "document": delivery.document.to_string(),
        "name": delivery.record.name,
        "record": delivery.record.key,
        "generation": delivery.generation,
        "seq": delivery.seq,
        "key": delivery.key.0,
        "heads": heads.join(" "),
        "mapping": delivery.mapping,
        "correlation": delivery.correlation,
    })
}

/// A statement about the table that notes deliveries.
fn in_table(sql: &str, noted: &str) -> String {
    sql.replace(" rejoin_deliveries", &format!(" {noted}"))
        .replace("::rejoin_deliveries", &format!("::{noted}"))
}

/// A name as SQL takes it whatever it holds.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One transaction. Whoever else makes it at the same time waits, or both would fail.
fn make_table(noted: &str) -> String {
    format!(
        "SELECT pg_advisory_xact_lock(hashtext('rejoin_deliveries')); \
         CREATE TABLE IF NOT EXISTS {noted} ({TABLE_COLUMNS})"
    )
}

/// The columns of the table that notes deliveries.
pub(super) const TABLE_COLUMNS: &str = "
    adapter     text        NOT NULL,
    document    text        NOT NULL,
    name        text        NOT NULL,
    record      text        NOT NULL,
    generation  bigint      NOT NULL,
    seq         bigint      NOT NULL,
    key         text        NOT NULL,
    heads       text        NOT NULL,
    mapping     text        NOT NULL,
    correlation text        NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (adapter, document, name, record)
";

const NOTE: &str = "\
INSERT INTO rejoin_deliveries AS known
    (adapter, document, name, record, generation, seq, key, heads, mapping, correlation)
SELECT adapter, document, name, record, generation, seq, key, heads, mapping, correlation
FROM jsonb_populate_recordset(NULL::rejoin_deliveries, CAST($1::text AS jsonb))
ORDER BY document, name, record
ON CONFLICT (adapter, document, name, record) DO UPDATE SET
    generation = EXCLUDED.generation, seq = EXCLUDED.seq, key = EXCLUDED.key,
    heads = EXCLUDED.heads, mapping = EXCLUDED.mapping, correlation = EXCLUDED.correlation,
    at = now()
WHERE (known.generation, known.seq) < (EXCLUDED.generation, EXCLUDED.seq)
RETURNING known.key";

const KNOWN: &str = "\
SELECT given.key, known.seq
FROM jsonb_populate_recordset(NULL::rejoin_deliveries, CAST($1::text AS jsonb)) AS given
JOIN rejoin_deliveries AS known USING (adapter, document, name, record)
WHERE known.key <> given.key";
