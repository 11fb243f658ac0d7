//! How statements reach a database: one small dialect of arguments and rows over both drivers, so that every query is written once.
//! Nothing here knows a table.

pub(crate) mod conn;
pub(crate) mod reader;
pub(crate) mod row;
pub(crate) mod sql;
pub(crate) mod writer;

pub(crate) use conn::{BoxFuture, Conn};
pub(crate) use row::{Cols, Row};
pub(crate) use sql::{Arg, Build, Engine, Sql};
