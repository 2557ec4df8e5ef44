//! What the database's errors mean for a delivery.
//!
//! What the database says of values may hold the values, so of those errors only names and codes are
//! told. The codes are those of the [manual](https://www.postgresql.org/docs/current/errcodes-appendix.html).

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::delivery::{Fault, FaultClass, Reach};

/// A fault for an error of a statement about one table: permanent if it is about the row and will be
/// there again.
pub(super) fn fault(error: &Error) -> Fault {
    let Some(said) = error.as_db_error() else {
        let mut last = error.to_string();
        let mut source = error.source();
        while let Some(at) = source {
            last = at.to_string();
            source = at.source();
        }
        return Fault::trouble(format!("the database cannot be reached: {last}"));
    };
    let code = said.code().code();
    if is_about_the_row(said.code()) {
        return Fault {
            field: said.column().map(ToOwned::to_owned),
            ..Fault::permanent(refusal(said))
        };
    }
    let advice = match said.code() {
        &SqlState::UNDEFINED_TABLE => "; create the table",
        &SqlState::UNDEFINED_COLUMN => "; add the column, or take the field out of the mapping",
        &SqlState::INVALID_SCHEMA_NAME => "; create the schema, or change `schema`",
        &SqlState::INVALID_CATALOG_NAME => "; create the database, or change `url`",
        &SqlState::INVALID_COLUMN_REFERENCE => "; make the key column unique",
        &SqlState::INSUFFICIENT_PRIVILEGE => "; grant it to the user of the url",
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            SEE_TO_PASSWORD
        }
        &SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE => {
            "; see what locks the table, or raise `timeout_s`"
        }
        _ => "",
    };
    let what = match is_of(said.code(), &WITHOUT_VALUES) {
        true => format!("the database says {} ({code}){advice}", said.message()),
        false => format!("the database does not take it ({code}); its log says why"),
    };
    match said.code() {
        // A statement that took too long.
        &SqlState::QUERY_CANCELED => Fault::transient(what),
        &SqlState::UNDEFINED_TABLE => Fault::no_place(what),
        code if is_of(code, &OF_THE_DATABASE) => Fault::trouble(what),
        code if is_of(code, &OF_A_TABLE) => Fault::trouble_of_kind(what),
        _ => Fault::transient(what),
    }
}

/// A fault for an error of what every row needs: of the connection itself, and of the table that notes
/// deliveries. No row is at fault.
pub(super) fn fault_for_all(error: &Error) -> Fault {
    let fault = fault(error);
    match fault.class {
        FaultClass::Trouble(Reach::Kind | Reach::NoPlace) | FaultClass::Permanent => {
            Fault::trouble(fault.what)
        }
        _ => fault,
    }
}

/// Whether an error is about the database, so that other rows would meet it as well, and not about
/// one row or one table.
pub(super) fn is_for_all(error: &Error) -> bool {
    error.code().is_none_or(|code| is_of(code, &OF_THE_DATABASE) || is_of(code, &OF_THE_MOMENT))
}

/// Values that do not fit, and what becomes of them in a trigger. A foreign key is none of it: the
/// row it names may be on its way. Neither is a column of another type than the catalog said just
/// before: the table was changed or renamed meanwhile.
fn is_about_the_row(code: &SqlState) -> bool {
    *code != SqlState::FOREIGN_KEY_VIOLATION
        && (is_of(code, &["0A", "22", "23", "54"])
            || [SqlState::CANNOT_COERCE, SqlState::RAISE_EXCEPTION].contains(code))
}

/// What to do about a password that is not the user's.
pub(super) const SEE_TO_PASSWORD: &str = "; see to `password`";

fn is_of(code: &SqlState, classes: &[&str]) -> bool {
    classes.iter().any(|class| code.code().starts_with(class))
}

/// Connection, sign-in, which database, resources, operator, system; and that it can only be read.
const OF_THE_DATABASE: [&str; 7] = ["08", "28", "3D", "53", "57", "58", "25006"];

/// Missing tables, columns, schemas and grants.
const OF_A_TABLE: [&str; 2] = ["42", "3F"];

/// Transaction, serialisation, state, and faults of the database.
const OF_THE_MOMENT: [&str; 4] = ["25", "40", "55", "XX"];

/// Classes whose messages name what is in the way, and never a value.
const WITHOUT_VALUES: [&str; 10] = ["08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57"];

fn refusal(said: &DbError) -> String {
    let code = said.code().code();
    let table = said.table().map(|table| format!(" of {table}")).unwrap_or_default();
    match (said.column(), said.constraint()) {
        (Some(column), _) if *said.code() == SqlState::NOT_NULL_VIOLATION => format!(
            "the database refuses {column}{table} without a value ({code}); give the field one, or let \
             the column be NULL"
        ),
        (None, Some(constraint)) if *said.code() == SqlState::UNIQUE_VIOLATION => format!(
            "the database refuses the row by {constraint}{table} ({code}): another row has the same \
             there already"
        ),
        (Some(column), _) => format!("the database refuses {column}{table} ({code})"),
        (None, Some(constraint)) => {
            format!("the database refuses the row by {constraint}{table} ({code})")
        }
        _ if *said.code() == SqlState::RAISE_EXCEPTION => {
            format!("a trigger or function of the database refuses the row ({code})")
        }
        _ => format!(
            "a value does not fit its column ({code}); give the field a `type`, or change the column"
        ),
    }
}
