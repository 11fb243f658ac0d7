//! Reading rows, column after column, into model types.

use std::str::FromStr;

use bessemer_model::{Json, JsonMap, clock::Timestamp};
use serde::de::DeserializeOwned;
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use super::reader::Cells;
use crate::error::{DbError, Result};

/// A row of either engine.
pub enum Row {
    Sqlite(SqliteRow),
    /// From a reader of an SQLite file.
    Read(Cells),
    Postgres(PgRow),
}

impl Row {
    /// A reader that stands at the first column.
    pub(crate) fn cols(&self) -> Cols<'_> {
        Cols { row: self, at: 0 }
    }
}

/// Reads a row's columns in the order of the statement's list.
pub(crate) struct Cols<'r> {
    row: &'r Row,
    at: usize,
}

macro_rules! getters {
    ($($(#[$d:meta])* $name:ident: $t:ty;)*) => {$(
        $(#[$d])*
        pub(crate) fn $name(&mut self) -> Result<$t> {
            let i = self.at;
            self.at += 1;
            Ok(match self.row {
                Row::Sqlite(r) => r.try_get::<$t, _>(i)?,
                Row::Read(r) => r.get::<$t>(i)?,
                Row::Postgres(r) => r.try_get::<$t, _>(i)?,
            })
        }
    )*};
}

impl<'r> Cols<'r> {
    getters! {
        text: String;
        str: &'r str;
        opt_text: Option<String>;
        opt_str: Option<&'r str>;
        int: i64;
        opt_int: Option<i64>;
        bool: bool;
        opt_bool: Option<bool>;
        opt_float: Option<f64>;
        bytes: Vec<u8>;
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp> {
        self.int().map(Timestamp)
    }
    pub(crate) fn opt_time(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.opt_int()?.map(Timestamp))
    }
    /// A value that is stored as its text.
    pub(crate) fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, what: &'static str) -> Result<T> {
        self.str()?.parse().map_err(|e| DbError::corrupt(what, e))
    }
    pub(crate) fn opt_parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, what: &'static str) -> Result<Option<T>> {
        self.opt_str()?.map(|s| s.parse().map_err(|e| DbError::corrupt(what, e))).transpose()
    }
    /// An enum that is stored as its wire name.
    pub(crate) fn named<T>(&mut self, what: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        let s = self.str()?;
        parse(s).ok_or_else(|| DbError::corrupt(what, s))
    }
    pub(crate) fn opt_named<T>(&mut self, what: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        self.opt_str()?.map(|s| parse(s).ok_or_else(|| DbError::corrupt(what, s))).transpose()
    }
    pub(crate) fn json<T: DeserializeOwned>(&mut self, what: &'static str) -> Result<T> {
        from_json(what, self.str()?)
    }
    /// A JSON object; most are empty, which costs nothing.
    pub(crate) fn map(&mut self, what: &'static str) -> Result<JsonMap> {
        match self.str()? {
            "{}" => Ok(JsonMap::new()),
            s => from_json(what, s),
        }
    }
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &'static str, s: &str) -> Result<T> {
    // The error's own text would quote the value, which may be private: only its place is told.
    serde_json::from_str(s).map_err(|e| DbError::corrupt(what, format!("column {} of its JSON", e.column())))
}

pub(crate) fn to_json<T: serde::Serialize>(what: &'static str, v: &T) -> Result<String> {
    serde_json::to_string(v).map_err(|e| DbError::corrupt(what, e))
}

pub(crate) fn map_text(m: &JsonMap) -> String {
    if m.is_empty() { "{}".to_owned() } else { Json::Object(m.clone()).to_string() }
}
