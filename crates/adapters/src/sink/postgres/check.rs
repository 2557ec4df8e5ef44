//! Whether a database takes the rows of a mapping. Nothing is written.

use tokio::time::timeout;
use tokio_postgres::{Client, Error};

use super::columns::{Column, Columns, Kind, SQL};
use super::fault::fault;
use super::{Postgres, quoted, silent};
use crate::mapping::{Deletes, FieldMapping, Mapping, Mask, OutsideKind, RecordMapping};
use crate::nearest::meant;
use crate::sink::found::Found;

impl Postgres {
    /// Looks at schema, tables, columns and what the user may do.
    pub(super) async fn look(&self, mapping: &Mapping) -> Vec<Found> {
        let looking = async {
            let config = self.signed_in().map_err(|fault| fault.what)?;
            let (client, connection) =
                config.connect(self.tls.clone()).await.map_err(|error| fault(&error).what)?;
            tokio::spawn(connection);
            let mut found = vec![Found::fine("the database lets the user of the url in")];
            let looked = self.look_into(&client, mapping, &mut found).await;
            looked.map_err(|error| fault(&error).what)?;
            Ok::<_, String>(found)
        };
        match timeout(self.patience, looking).await {
            Ok(Ok(found)) => found,
            Ok(Err(what)) => vec![Found::wrong(what)],
            Err(_) => vec![Found::wrong(silent(self.patience).what)],
        }
    }

    async fn look_into(
        &self,
        client: &Client,
        mapping: &Mapping,
        found: &mut Vec<Found>,
    ) -> Result<(), Error> {
        client.batch_execute("BEGIN READ ONLY").await?;
        let schema = &self.tables.schema;
        let may = "SELECT has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE') \
                   FROM pg_namespace WHERE nspname = $1";
        let Some(row) = client.query_opt(may, &[schema]).await? else {
            found.push(Found::wrong(format!("there is no schema {schema:?}; {DDL}")));
            return Ok(());
        };
        let (may_use, may_create): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !may_use {
            found.push(Found::wrong(format!("the user may not use the schema {schema:?}; {DDL}")));
            return Ok(());
        }
        let needed = ["SELECT", "INSERT", "UPDATE"];
        match self.lacks(client, "rejoin_deliveries", &needed).await? {
            None if may_create => {
                found.push(Found::fine("rejoin_deliveries will be made with the first delivery"));
            }
            None => found.push(Found::wrong(format!(
                "there is no table rejoin_deliveries, and the user may not make it; {DDL}"
            ))),
            Some(lacks) => tell_grants("rejoin_deliveries", &lacks, found),
        }
        for record in &mapping.records {
            self.look_at_table(client, mapping, record, found).await?;
        }
        Ok(())
    }

    /// Which rights on a table the user lacks; `None` if there is no such table.
    async fn lacks(
        &self,
        client: &Client,
        table: &str,
        needed: &[&'static str],
    ) -> Result<Option<Vec<&'static str>>, Error> {
        let table = self.tables.table(table);
        let there = client.query_one("SELECT to_regclass($1::text)::text", &[&table]).await?;
        if there.try_get::<_, Option<&str>>(0)?.is_none() {
            return Ok(None);
        }
        let mut lacks = Vec::new();
        for right in needed.iter().copied() {
            let may = "SELECT has_table_privilege(to_regclass($1::text), $2::text)";
            if !client.query_one(may, &[&table, &right]).await?.try_get::<_, bool>(0)? {
                lacks.push(right);
            }
        }
        Ok(Some(lacks))
    }

    async fn look_at_table(
        &self,
        client: &Client,
        mapping: &Mapping,
        record: &RecordMapping,
        found: &mut Vec<Found>,
    ) -> Result<(), Error> {
        let name = &record.name;
        let mut needed = vec!["SELECT", "INSERT", "UPDATE"];
        if mapping.deletes == Deletes::Delete {
            needed.push("DELETE");
        }
        let Some(lacks) = self.lacks(client, name, &needed).await? else {
            found.push(Found::wrong(format!("there is no table {name}; {DDL}")));
            return Ok(());
        };
        tell_grants(name, &lacks, found);
        let rows = client.query(SQL, &[&self.tables.table(name)]).await?;
        let columns: Columns = rows.iter().map(Column::read).collect::<Result<_, _>>()?;
        if columns.contains_key(&self.tables.key) {
            let table = self.tables.table(name);
            let unique = client.query_one(UNIQUE, &[&table, &self.tables.key]).await?;
            if !unique.try_get::<_, bool>(0)? {
                let key = quoted(&self.tables.key);
                found.push(Found::wrong(format!(
                    "{name}.{} is not unique; ALTER TABLE {} ADD UNIQUE ({key})",
                    self.tables.key,
                    self.tables.table(name)
                )));
            }
        }
        found.extend(self.unfit(mapping, record, &columns).into_iter().map(Found::wrong));
        Ok(())
    }

    /// What is wrong with the columns of a record's table.
    fn unfit(&self, mapping: &Mapping, record: &RecordMapping, columns: &Columns) -> Vec<String> {
        let (name, tables) = (&record.name, &self.tables);
        let known = || columns.keys().map(String::as_str);
        let mut wrong = Vec::new();
        let deleted = tables.deleted.iter().map(|column| (column, None));
        let own = [(&tables.key, None)].into_iter().chain(deleted);
        let fields = record.fields.iter().map(|(column, field)| (column, Some(field)));
        for (column, field) in own.chain(fields) {
            match (columns.get(column), field) {
                (None, _) => wrong.push(format!(
                    "{name} has no column {column}{}; {DDL}",
                    meant(column, known())
                )),
                (Some(is), Some(field)) => {
                    let misfit = carried(field).filter(|carried| !takes(is.kind, *carried));
                    wrong.extend(misfit.map(|carried| {
                        format!(
                            "{name}.{column} is {}, and the mapping makes {} of it; change `type`, or \
                             the column",
                            is.declared,
                            carried.name()
                        )
                    }));
                }
                // Whatever is unique and spelled as a text can be a key.
                (Some(is), None) if *column != tables.key && !takes(is.kind, OutsideKind::Time) => {
                    wrong.push(format!(
                    "{name}.{column} is {}, and keeps when a row was found gone; make it timestamptz",
                    is.declared
                ));
                }
                _ => {}
            }
        }
        let is_filled = |column: &String| {
            *column == tables.key
                || record.fields.contains_key(column)
                || Some(column) == tables.deleted.as_ref()
        };
        let needed = columns.iter().filter(|(column, is)| is.is_needed && !is_filled(column));
        wrong.extend(needed.map(|(column, _)| {
            format!(
                "{name}.{column} may not be NULL, has no default, and is not mapped; map it, or give it \
                 a default"
            )
        }));
        if mapping.deletes != Deletes::Delete && tables.deleted.is_none() {
            wrong.push("rows are to be marked; set `deleted_column`".to_owned());
        }
        wrong
    }
}

fn tell_grants(table: &str, lacks: &[&str], found: &mut Vec<Found>) {
    found.push(match lacks.is_empty() {
        true => Found::fine(format!("the table {table} is there, and the user may write to it")),
        false => Found::wrong(format!("the user may not {} {table}; {DDL}", lacks.join(", "))),
    });
}

/// What a field is, as far as the mapping says it.
fn carried(field: &FieldMapping) -> Option<OutsideKind> {
    match field.mask {
        Some(Mask::Hash | Mask::Last4) => Some(OutsideKind::String),
        Some(Mask::Drop | Mask::Null) => None,
        None => field.kind.filter(|_| field.map.is_empty()),
    }
}

/// Whether a column may take values of this kind. Texts may spell anything.
fn takes(column: Kind, carried: OutsideKind) -> bool {
    use OutsideKind as Outside;

    let is_number =
        matches!(column, Kind::Integer(_) | Kind::Decimal(_) | Kind::Single | Kind::Double);
    let is_time = matches!(column, Kind::Moment(_) | Kind::Clock(_) | Kind::Day);
    match (carried, column) {
        (Outside::Json | Outside::String, _) | (_, Kind::Text(_) | Kind::Other) => true,
        (Outside::Integer | Outside::Number, _) => is_number,
        (Outside::Boolean, _) => column == Kind::Boolean,
        (Outside::Time, _) => is_time,
    }
}

/// Whether the column `$2` of the table `$1` alone is unique.
const UNIQUE: &str = "\
SELECT EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid
    WHERE i.indrelid = to_regclass($1::text) AND a.attname = $2::text AND i.indisunique
      AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL)";

const DDL: &str = "`rejoin adapters ddl NAME` prints what makes it so";
