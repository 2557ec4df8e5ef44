//! The SQL that makes what a mapping needs in a database.

use rejoin::schema::{Kind as Stored, Schema};
use serde_json::Value;

use super::session::{TABLE_COLUMNS, quoted};
use super::{Options, Tables};
use crate::mapping::{Deletes, FieldMapping, From, Mapping, Mask, OutsideKind, RecordMapping};
use crate::sink::SinkError;

/// Tables, columns, keys and rights for what a mapping makes, as a script for `psql`: whoever owns the
/// database runs it, and the user of the url can deliver and nothing else. `schema` is that of the
/// collection, if it is known.
///
/// # Errors
/// The mapping's sink is not PostgreSQL, or its options are not understood.
pub fn ddl(mapping: &Mapping, schema: Option<&Schema>) -> Result<String, SinkError> {
    let (kind, rest) = crate::sink::parts(&mapping.sink);
    if kind != "postgres" {
        let what = format!("only a sink of kind \"postgres\" has tables, and this is {kind:?}");
        return Err(SinkError::Setup { what });
    }
    let options: Options = rest.try_into()?;
    let user = options.config()?.get_user().map(quoted);
    let user = user.unwrap_or_else(|| "CURRENT_USER".to_owned());
    let tables = Tables {
        schema: options.schema.clone(),
        key: options.key_column.clone(),
        deleted: options.deleted_column.clone(),
    };
    let place = quoted(&tables.schema);
    let mut sql = format!(
        "-- Run this as the owner of the database; the user is made with\n\
         -- CREATE ROLE {user} LOGIN PASSWORD '...';\n"
    );
    if tables.schema != "public" {
        sql += &format!("CREATE SCHEMA IF NOT EXISTS {place};\n");
    }
    sql += &format!("GRANT USAGE ON SCHEMA {place} TO {user};\n");
    for record in &mapping.records {
        sql += &table(mapping, record, &tables, schema, &user);
    }
    let noted = tables.table("rejoin_deliveries");
    sql += &format!(
        "\n-- Which delivery each row came from.\n\
         CREATE TABLE IF NOT EXISTS {noted} ({TABLE_COLUMNS});\n\
         GRANT SELECT, INSERT, UPDATE ON {noted} TO {user};\n"
    );
    Ok(sql)
}

fn table(
    mapping: &Mapping,
    record: &RecordMapping,
    tables: &Tables,
    schema: Option<&Schema>,
    user: &str,
) -> String {
    let name = tables.table(&record.name);
    let mut columns = vec![format!("    {} text PRIMARY KEY", quoted(&tables.key))];
    let own = |column: &String| *column == tables.key || Some(column) == tables.deleted.as_ref();
    let mapped = record.fields.iter().filter(|(column, _)| !own(column));
    columns.extend(mapped.map(|(column, field)| {
        format!("    {} {}", quoted(column), sql_type(field, record, schema))
    }));
    columns
        .extend(tables.deleted.iter().map(|column| format!("    {} timestamptz", quoted(column))));
    let rights = match mapping.deletes {
        Deletes::Delete => "SELECT, INSERT, UPDATE, DELETE",
        Deletes::Mark { .. } => "SELECT, INSERT, UPDATE",
    };
    let columns = columns.join(",\n");
    format!(
        "\nCREATE TABLE IF NOT EXISTS {name} (\n{columns}\n);\nGRANT {rights} ON {name} TO {user};\n"
    )
}

/// A type that takes all that a field can be.
fn sql_type(field: &FieldMapping, record: &RecordMapping, schema: Option<&Schema>) -> &'static str {
    if matches!(field.mask, Some(Mask::Hash | Mask::Last4)) {
        return "text";
    }
    if let Some(kind) = field.kind.filter(|_| field.map.is_empty()) {
        return match kind {
            OutsideKind::String => "text",
            OutsideKind::Integer => "bigint",
            OutsideKind::Number => "numeric",
            OutsideKind::Boolean => "boolean",
            OutsideKind::Time => "timestamptz",
            OutsideKind::Json => "jsonb",
        };
    }
    match &field.from {
        From::Constant(value) => of_values(std::iter::once(value)),
        From::Path { .. } if !field.map.is_empty() => of_values(field.map.values()),
        From::Path { path, in_item } => {
            let path = match &record.each {
                Some(each) if *in_item => path
                    .segments()
                    .iter()
                    .fold(each.join("*"), |path, step| path.join(step.clone())),
                _ => path.clone(),
            };
            let stored = schema.and_then(|schema| schema.field(&path)).and_then(|field| field.kind);
            match stored {
                Some(Stored::Integer) => "bigint",
                Some(Stored::Number) => "numeric",
                Some(Stored::Boolean) => "boolean",
                Some(Stored::List | Stored::Map) => "jsonb",
                // Without `type = "time"` a time is the text that it is in the document.
                _ => "text",
            }
        }
    }
}

fn of_values<'a>(values: impl Iterator<Item = &'a Value>) -> &'static str {
    let kinds = values.map(|value| match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "numeric",
        Value::Array(_) | Value::Object(_) => "jsonb",
        Value::String(_) | Value::Null => "text",
    });
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    match kinds.len() {
        1 => kinds.first().copied().unwrap_or("text"),
        _ => "text",
    }
}
