//! Keyset paging: a page begins strictly after its marker in the order of (key, creation), where NULL keys are lowest.

use crate::{
    engine::{Arg, Build, Conn, Row, Sql},
    error::{DbError, Entity, Result},
    types::Page,
};

/// What a column holds, for reading the marker's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Text,
    Int,
    Bool,
}

/// A sort key: the expression over the listed table, or none for the order of creation itself.
#[derive(Clone, Copy, Debug)]
pub struct Key(pub(crate) Option<(Sql, Holds)>);

impl Key {
    pub(crate) const CREATED: Self = Self(None);
    pub(crate) const fn text(column: &'static str) -> Self {
        Self(Some((Sql::same(column), Holds::Text)))
    }
    pub(crate) const fn int(column: &'static str) -> Self {
        Self(Some((Sql::same(column), Holds::Int)))
    }
    pub(crate) const fn bool(column: &'static str) -> Self {
        Self(Some((Sql::same(column), Holds::Bool)))
    }
}

/// Where the page before ended.
pub(crate) struct Marker {
    seq: i64,
    /// `None` = NULL, or no key.
    key: Option<Arg>,
}

/// A list that is paged: the words that differ from table to table.
pub(crate) struct Listing {
    pub what: Entity,
    /// ` FROM table alias WHERE alias.id = `
    pub from_id: &'static str,
    /// `alias.seq`
    pub seq: &'static str,
}

impl Listing {
    /// Reads the page of a statement that is built up to its conditions.
    pub(crate) async fn rows<Id: ToString, S>(&self, c: &mut Conn, mut b: Build, key: Key, page: &Page<Id, S>) -> Result<Vec<Row>> {
        if let Some(m) = &page.marker {
            let m = self.marker(c, key, &m.to_string()).await?;
            self.push_after(&mut b, key, m, page.desc);
        }
        self.push_order(&mut b, key, page.desc, page.limit);
        c.rows_built(b).await
    }

    /// Reads the marker's position.
    async fn marker(&self, c: &mut Conn, key: Key, id: &str) -> Result<Marker> {
        let mut b = Build::new(c.engine(), "SELECT ");
        b.push(self.seq);
        if let Some((expr, _)) = key.0 {
            b.push(", ").push_sql(expr);
        }
        b.push(self.from_id).bind(id);
        let row = c.row_built(b).await?.ok_or_else(|| DbError::not_found(self.what, id))?;
        let cols = &mut row.cols();
        let seq = cols.int()?;
        let key = match key.0 {
            None => None,
            Some((_, Holds::Text)) => cols.opt_text()?.map(Arg::from),
            Some((_, Holds::Int)) => cols.opt_int()?.map(Arg::from),
            Some((_, Holds::Bool)) => cols.opt_bool()?.map(Arg::from),
        };
        Ok(Marker { seq, key })
    }

    /// Appends the condition ` AND …` for rows after the marker.
    fn push_after(&self, b: &mut Build, key: Key, marker: Marker, desc: bool) {
        let beyond = if desc { " < " } else { " > " };
        let later = |b: &mut Build, s: &Self| {
            b.push(s.seq).push(beyond).bind(marker.seq);
        };
        b.push(" AND ");
        let Some((expr, _)) = key.0 else {
            return later(b, self);
        };
        b.push("(");
        match marker.key {
            None => {
                b.push("(").push_sql(expr).push(" IS NULL AND ");
                later(b, self);
                b.push(")");
                if !desc {
                    b.push(" OR ").push_sql(expr).push(" IS NOT NULL");
                }
            }
            Some(v) => {
                b.push_sql(expr).push(beyond).bind(v.clone());
                b.push(" OR (").push_sql(expr).push(" = ").bind(v).push(" AND ");
                later(b, self);
                b.push(")");
                if desc {
                    b.push(" OR ").push_sql(expr).push(" IS NULL");
                }
            }
        }
        b.push(")");
    }

    /// Appends the order and the limit.
    fn push_order(&self, b: &mut Build, key: Key, desc: bool, limit: u32) {
        b.push(" ORDER BY ");
        if let Some((expr, _)) = key.0 {
            b.push_sql(expr).push(if desc { " DESC NULLS LAST, " } else { " ASC NULLS FIRST, " });
        }
        b.push(self.seq).push(if desc { " DESC" } else { " ASC" });
        b.push(" LIMIT ").bind(limit);
    }
}

/// A LIKE pattern that finds `text` anywhere, for `LIKE … ESCAPE '!'` over lower-cased columns.
pub(crate) fn contains(text: &str) -> String {
    // `%` and `_` keep their meaning: the filter is SQL LIKE in the contract.
    let quoted = text.to_ascii_lowercase().replace('!', "!!");
    format!("%{quoted}%")
}
