//! What the columns of a table are.

use std::collections::BTreeMap;

use tokio_postgres::{Error, Row};

/// The columns of a table by name; none if there is no such table, or nobody may know of it.
pub(super) type Columns = BTreeMap<String, Column>;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its type as SQL writes it, which may be a domain.
    pub(super) declared: String,
    /// What values of that type are.
    pub(super) kind: Kind,
    /// Whether a row cannot be without a value that somebody gives: it has none by itself.
    pub(super) is_needed: bool,
}

/// What values of a type are, as far as the database would change some without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole number of so many bits.
    Integer(u32),
    /// A decimal number, with so many digits in all and behind the point if there is a limit.
    Decimal(Option<(i64, i64)>),
    /// A number of four bytes with a point that floats.
    Single,
    /// The same of eight bytes.
    Double,
    /// True or false.
    Boolean,
    /// A text of so many characters at most.
    Text(Option<usize>),
    /// A moment, with so many digits behind the seconds.
    Moment(usize),
    /// A date and what a clock shows, of no particular zone, with so many digits behind the seconds.
    Clock(usize),
    /// A day.
    Day,
    /// Something else, of which the database tells what does not fit.
    Other,
}

impl Column {
    /// A row of [`SQL`], with the column's name.
    pub(super) fn read(row: &Row) -> Result<(String, Self), Error> {
        let (base, modifier): (&str, i32) = (row.try_get(2)?, row.try_get(3)?);
        let column = Self {
            declared: row.try_get(1)?,
            kind: Kind::new(base, modifier),
            is_needed: row.try_get(4)?,
        };
        Ok((row.try_get(0)?, column))
    }
}

impl Kind {
    /// The kind of a type that is no domain, with the modifier that the catalog keeps for it.
    fn new(base: &str, modifier: i32) -> Self {
        let length = usize::try_from(modifier - 4).ok();
        let fraction = usize::try_from(modifier).unwrap_or(6);
        match base {
            "int2" => Self::Integer(16),
            "int4" => Self::Integer(32),
            "int8" => Self::Integer(64),
            "numeric" if modifier >= 4 => {
                let (packed, scale) = (i64::from(modifier - 4), i64::from(modifier - 4) & 0x7ff);
                // The scale is a number of eleven bits that may be negative.
                Self::Decimal(Some((packed >> 16, (scale ^ 1024) - 1024)))
            }
            "numeric" => Self::Decimal(None),
            "float4" => Self::Single,
            "float8" => Self::Double,
            "bool" => Self::Boolean,
            "text" => Self::Text(None),
            "varchar" | "bpchar" => Self::Text(length),
            "timestamptz" => Self::Moment(fraction),
            "timestamp" => Self::Clock(fraction),
            "date" => Self::Day,
            _ => Self::Other,
        }
    }
}

/// The columns of the table `$1`: name, declared type, the type behind all domains, its modifier, and
/// whether a row must be given a value.
pub(super) const SQL: &str = "\
WITH RECURSIVE behind AS (
    SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) AS declared, t.typtype,
           t.typname, t.typbasetype,
           CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END AS modifier,
           a.attnotnull OR t.typnotnull AS is_strict,
           a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS has_default
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, b.attname, b.declared, t.typtype, t.typname, t.typbasetype,
           CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE b.modifier END,
           b.is_strict OR t.typnotnull, b.has_default OR t.typdefault IS NOT NULL
    FROM behind AS b JOIN pg_type AS t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT attname::text, declared, typname::text, modifier, is_strict AND NOT has_default
FROM behind WHERE typtype <> 'd' ORDER BY attnum";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modifier_is_read_as_the_catalog_keeps_it() {
        // Taken from `SELECT atttypmod FROM pg_attribute`.
        for (base, modifier, kind) in [
            ("numeric", 393_222, Kind::Decimal(Some((6, 2)))),
            ("numeric", 133_122, Kind::Decimal(Some((2, -2)))),
            ("numeric", -1, Kind::Decimal(None)),
            ("varchar", 14, Kind::Text(Some(10))),
            ("varchar", -1, Kind::Text(None)),
            ("timestamptz", 0, Kind::Moment(0)),
            ("timestamp", -1, Kind::Clock(6)),
            ("inet", -1, Kind::Other),
        ] {
            assert_eq!(Kind::new(base, modifier), kind, "{base} {modifier}");
        }
    }
}
