//! Reading columns back into their types. A row that does not parse is an error, never a panic, and
//! the error names the column, not what stands in it.

use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::catalog::CatalogError;

/// Typed access to the columns of one row.
pub(super) trait Columns {
    /// A text as it is.
    fn text(&self, column: &'static str) -> Result<String, CatalogError>;
    /// A text that may be absent.
    fn text_opt(&self, column: &'static str) -> Result<Option<String>, CatalogError>;
    /// Bytes as they are.
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, CatalogError>;
    /// A truth value.
    fn flag(&self, column: &'static str) -> Result<bool, CatalogError>;
    /// A truth value that may be absent.
    fn flag_opt(&self, column: &'static str) -> Result<Option<bool>, CatalogError>;
    /// A name, validated again.
    fn name<T: FromStr>(&self, column: &'static str) -> Result<T, CatalogError>;
    /// A name that may be absent.
    fn name_opt<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, CatalogError>;
    /// A JSON document.
    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, CatalogError>;
    /// A JSON document that may be absent.
    fn json_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, CatalogError>;
    /// A number that is never negative.
    fn count(&self, column: &'static str) -> Result<u64, CatalogError>;
    /// A number that may be absent.
    fn count_opt(&self, column: &'static str) -> Result<Option<u64>, CatalogError>;
    /// A time.
    fn time(&self, column: &'static str) -> Result<Timestamp, CatalogError>;
    /// A time that may be absent.
    fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, CatalogError>;
}

impl Columns for SqliteRow {
    fn text(&self, column: &'static str) -> Result<String, CatalogError> {
        Ok(self.try_get(column)?)
    }

    fn text_opt(&self, column: &'static str) -> Result<Option<String>, CatalogError> {
        Ok(self.try_get(column)?)
    }

    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, CatalogError> {
        Ok(self.try_get(column)?)
    }

    fn flag(&self, column: &'static str) -> Result<bool, CatalogError> {
        Ok(self.try_get(column)?)
    }

    fn flag_opt(&self, column: &'static str) -> Result<Option<bool>, CatalogError> {
        Ok(self.try_get(column)?)
    }

    fn name<T: FromStr>(&self, column: &'static str) -> Result<T, CatalogError> {
        parse(column, self.try_get(column)?)
    }

    fn name_opt<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, CatalogError> {
        let text: Option<&str> = self.try_get(column)?;
        text.map(|text| parse(column, text)).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, CatalogError> {
        serde_json::from_str(self.try_get(column)?).map_err(|_| malformed(column))
    }

    fn json_opt<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, CatalogError> {
        let text: Option<&str> = self.try_get(column)?;
        text.map(|text| serde_json::from_str(text).map_err(|_| malformed(column)))
            .transpose()
    }

    fn count(&self, column: &'static str) -> Result<u64, CatalogError> {
        u64::try_from(self.try_get::<i64, _>(column)?).map_err(|_| malformed(column))
    }

    fn count_opt(&self, column: &'static str) -> Result<Option<u64>, CatalogError> {
        let number: Option<i64> = self.try_get(column)?;
        number
            .map(|n| u64::try_from(n).map_err(|_| malformed(column)))
            .transpose()
    }

    fn time(&self, column: &'static str) -> Result<Timestamp, CatalogError> {
        Timestamp::from_millisecond(self.try_get(column)?).map_err(|_| malformed(column))
    }

    fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, CatalogError> {
        let millis: Option<i64> = self.try_get(column)?;
        millis
            .map(|millis| Timestamp::from_millisecond(millis).map_err(|_| malformed(column)))
            .transpose()
    }
}

/// What a statement sets of a node that should have something else from now on: its next generation, and
/// that it is behind, where it was not before.
macro_rules! raised {
    () => {
        "generation = generation + 1, behind_since = COALESCE(
             behind_since, CAST(unixepoch('subsec') * 1000 AS INTEGER))"
    };
}
pub(super) use raised;

/// A row that does not hold what it should.
pub(super) fn malformed(column: &'static str) -> CatalogError {
    CatalogError::Storage(format!("a stored {column} is malformed"))
}

/// A document as it is stored.
pub(super) fn to_json<T: Serialize>(
    what: &'static str,
    document: &T,
) -> Result<String, CatalogError> {
    serde_json::to_string(document)
        .map_err(|_| CatalogError::Storage(format!("the {what} cannot be written as JSON")))
}

/// A counter as SQL has it. What is beyond its range is beyond every stored counter too.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn parse<T: FromStr>(column: &'static str, text: &str) -> Result<T, CatalogError> {
    text.parse().map_err(|_| malformed(column))
}
