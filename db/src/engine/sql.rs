//! Statement texts and their arguments.

use bessemer_model::{
    clock::Timestamp,
    ids::{AllocationId, ChassisId, DeployTemplateId, FlowId, HistoryId, NodeId, PortId, PortgroupId, RuleId, RunbookId, VolumeId},
};

/// Which database a connection speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A statement (or a piece of one) in the words of each engine; nearly always the same words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

impl Sql {
    pub(crate) const fn same(text: &'static str) -> Self {
        Self { sqlite: text, postgres: text }
    }
    pub(crate) const fn of(self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        }
    }
}

/// Declares the statements of a module and lists them, so that a test can prepare each one on both engines.
macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        $(const $name: crate::engine::Sql = $sql;)*
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, crate::engine::Sql)] = &[$((stringify!($name), $name),)*];
    };
}

/// A statement that judges leases: after each `now`, the argument that the caller bound to the present time. PostgreSQL uses its own
/// clock instead, which all conductors share; the argument is still named so that both engines take the same arguments.
macro_rules! judged {
    ($($part:literal $(now $arg:literal)?)+) => {
        crate::engine::Sql {
            sqlite: concat!($($part $(, $arg)?),+),
            postgres: concat!($($part $(, "(CAST(", $arg, " AS BIGINT) * 0 + CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT))")?),+),
        }
    };
}

macro_rules! args {
    ($($a:expr),* $(,)?) => { vec![$(crate::engine::Arg::from($a)),*] };
}

pub(crate) use {args, judged, statements};

/// An argument.
#[derive(Clone, Debug)]
pub enum Arg {
    Text(Option<String>),
    Int(Option<i64>),
    Bool(Option<bool>),
    Float(Option<f64>),
    Bytes(Vec<u8>),
}

macro_rules! arg_from {
    ($($t:ty => |$v:ident| $e:expr;)*) => {$(
        impl From<$t> for Arg { fn from($v: $t) -> Self { $e } }
    )*};
}

arg_from! {
    &str => |v| Self::Text(Some(v.to_owned()));
    String => |v| Self::Text(Some(v));
    &String => |v| Self::Text(Some(v.clone()));
    Option<String> => |v| Self::Text(v);
    &Option<String> => |v| Self::Text(v.clone());
    Option<&str> => |v| Self::Text(v.map(str::to_owned));
    i64 => |v| Self::Int(Some(v));
    Option<i64> => |v| Self::Int(v);
    u32 => |v| Self::Int(Some(i64::from(v)));
    Timestamp => |v| Self::Int(Some(v.0));
    Option<Timestamp> => |v| Self::Int(v.map(|t| t.0));
    bool => |v| Self::Bool(Some(v));
    Option<bool> => |v| Self::Bool(v);
    Option<f64> => |v| Self::Float(v);
    Vec<u8> => |v| Self::Bytes(v);
    uuid::Uuid => |v| Self::Text(Some(v.to_string()));
    Option<uuid::Uuid> => |v| Self::Text(v.map(|u| u.to_string()));
    NodeId => |v| Self::Text(Some(v.to_string()));
    Option<NodeId> => |v| Self::Text(v.map(|u| u.to_string()));
    PortId => |v| Self::Text(Some(v.to_string()));
    PortgroupId => |v| Self::Text(Some(v.to_string()));
    Option<PortgroupId> => |v| Self::Text(v.map(|u| u.to_string()));
    ChassisId => |v| Self::Text(Some(v.to_string()));
    FlowId => |v| Self::Text(Some(v.to_string()));
    HistoryId => |v| Self::Text(Some(v.to_string()));
    VolumeId => |v| Self::Text(Some(v.to_string()));
    AllocationId => |v| Self::Text(Some(v.to_string()));
    DeployTemplateId => |v| Self::Text(Some(v.to_string()));
    RunbookId => |v| Self::Text(Some(v.to_string()));
    RuleId => |v| Self::Text(Some(v.to_string()));
}

/// A statement put together from fixed pieces; values only ever become arguments.
pub struct Build {
    engine: Engine,
    text: String,
    args: Vec<Arg>,
}

impl Build {
    pub(crate) fn new(engine: Engine, start: &'static str) -> Self {
        Self { engine, text: start.to_owned(), args: Vec::new() }
    }
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }
    pub(crate) fn push_sql(&mut self, sql: Sql) -> &mut Self {
        let text = sql.of(self.engine);
        self.push(text)
    }
    /// Appends `$n` for this argument.
    pub(crate) fn bind(&mut self, arg: impl Into<Arg>) -> &mut Self {
        self.args.push(arg.into());
        self.text.push('$');
        self.text.push_str(&self.args.len().to_string());
        self
    }
    /// Appends the present time for judging leases: the argument on SQLite, the database's clock on PostgreSQL.
    pub(crate) fn bind_now(&mut self, now: Timestamp) -> &mut Self {
        match self.engine {
            Engine::Sqlite => self.bind(now),
            Engine::Postgres => self.push("CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"),
        }
    }
    /// Appends ` IN (…)` for a set of texts of any size, as one argument.
    pub(crate) fn in_set(&mut self, values: impl IntoIterator<Item = impl ToString>) -> &mut Self {
        let json = serde_json::Value::from(values.into_iter().map(|v| v.to_string()).collect::<Vec<_>>()).to_string();
        match self.engine {
            Engine::Sqlite => self.push(" IN (SELECT value FROM json_each(").bind(json).push("))"),
            Engine::Postgres => self.push(" IN (SELECT value FROM json_array_elements_text(CAST(").bind(json).push(" AS json)))"),
        }
    }
    pub(crate) fn finish(self) -> (String, Vec<Arg>) {
        (self.text, self.args)
    }
}
