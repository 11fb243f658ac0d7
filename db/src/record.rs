//! Records that are read and written as a whole: deploy templates, runbooks, inspection rules. Their five statements differ only by
//! table and columns, which each [`Stored`] names; what is done with them is here, once.

use bessemer_model::clock::Timestamp;

use crate::{
    engine::{Arg, Build, Conn, Row, Sql, sql::args},
    error::{DbError, Result, Unique},
    page::{Key, Listing},
    store::Store,
    types::Page,
};

/// The statements of a table of records.
pub struct Table {
    pub(crate) listing: Listing,
    /// The columns and the table; conditions follow.
    pub(crate) select: &'static str,
    pub(crate) by_id: Sql,
    /// `None`: such records have no name.
    pub(crate) by_name: Option<Sql>,
    /// Arguments: id, time, then [`Stored::columns`].
    pub(crate) insert: Sql,
    /// Arguments: id, `updated_at`, [`Stored::columns`], the revision that the record must be at.
    pub(crate) update: Sql,
    pub(crate) delete: Sql,
}

/// How a record lies in its table.
pub trait Stored: Clone + Send + Sync + 'static {
    /// Its identity.
    type Id: std::fmt::Display + std::str::FromStr + Copy + Send + Sync + 'static;
    /// What its lists can be sorted by.
    type Sort: Copy + Send + Sync + 'static;
    /// What narrows its lists.
    type Filter: Clone + Send + Sync + 'static;
    /// Its table.
    const TABLE: Table;
    /// Its id.
    fn id(&self) -> Self::Id;
    /// Grows with every write.
    fn revision(&self) -> i64;
    /// Its name; empty where it has none.
    fn name(&self) -> &str;
    /// The values of its own columns, in the order of the statements.
    fn columns(&self) -> Result<Vec<Arg>>;
    /// The record of a row.
    fn from_row(row: &Row) -> Result<Self>;
    /// `updated_at` after `self` replaced `old`.
    fn stamp(&self, old: &Self, now: Timestamp) -> Option<Timestamp>;
    /// The column of a sort key.
    fn key(sort: Self::Sort) -> Key;
    /// Appends ` AND …` for a filter.
    fn push_filter(_: &mut Build, _: &Self::Filter) {}
}

/// A deploy template, a runbook or an inspection rule.
pub trait Record: Stored {}
impl<R: Stored> Record for R {}

impl Store {
    /// Creates a record; its `seq`, `revision` and times are not looked at.
    ///
    /// # Errors
    /// [`DbError::Duplicate`] when its UUID or name is taken.
    pub async fn record_create<R: Record>(&self, record: R) -> Result<R> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                let mut a = args![record.id().to_string(), now];
                a.extend(record.columns()?);
                c.execute(R::TABLE.insert, a).await.map_err(|e| taken(e, &record))?;
                by_id(c, record.id()).await
            })
        })
        .await
    }

    /// A record by UUID or, where it has one, by name.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn record_get<R: Record>(&self, ident: &str) -> Result<R> {
        let none = || DbError::not_found(R::TABLE.listing.what, ident);
        let row = match (ident.parse::<R::Id>(), R::TABLE.by_name) {
            (Ok(id), _) => self.fetch_one(R::TABLE.by_id, args![id.to_string()]).await?,
            (Err(_), Some(sql)) => self.fetch_one(sql, args![ident]).await?,
            (Err(_), None) => return Err(none()),
        };
        row.map(|r| R::from_row(&r)).ok_or_else(none)?
    }

    /// A page of records.
    ///
    /// # Errors
    /// [`DbError::NotFound`] for an unknown marker.
    pub async fn record_list<R: Record>(&self, filter: &R::Filter, page: &Page<R::Id, R::Sort>) -> Result<Vec<R>> {
        let filter = filter.clone();
        let page = Page { limit: page.limit, marker: page.marker, sort: page.sort, desc: page.desc };
        self.read_many(move |c| {
            Box::pin(async move {
                let (key, listing) = (R::key(page.sort), R::TABLE.listing);
                let mut b = Build::new(c.engine(), R::TABLE.select);
                b.push("WHERE 1 = 1");
                R::push_filter(&mut b, &filter);
                listing.rows(c, b, key, &page).await?.iter().map(R::from_row).collect()
            })
        })
        .await
    }

    /// Writes a record if it is still at `revision`.
    ///
    /// # Errors
    /// [`DbError::RevisionLost`], [`DbError::NotFound`], [`DbError::Duplicate`].
    pub async fn record_update<R: Record>(&self, record: R, revision: i64) -> Result<R> {
        let now = self.now();
        self.write(move |c| {
            Box::pin(async move {
                let old: R = by_id(c, record.id()).await?;
                let mut a = args![record.id().to_string(), record.stamp(&old, now)];
                a.extend(record.columns()?);
                a.push(revision.into());
                if c.execute(R::TABLE.update, a).await.map_err(|e| taken(e, &record))? == 0 {
                    return Err(DbError::RevisionLost { node: record.id().to_string() });
                }
                by_id(c, record.id()).await
            })
        })
        .await
    }

    /// Deletes a record.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn record_delete<R: Record>(&self, id: R::Id) -> Result<()> {
        if self.execute(R::TABLE.delete, args![id.to_string()]).await? == 0 {
            return Err(DbError::not_found(R::TABLE.listing.what, id));
        }
        Ok(())
    }
}

async fn by_id<R: Record>(c: &mut Conn, id: R::Id) -> Result<R> {
    let row = c.row(R::TABLE.by_id, args![id.to_string()]).await?;
    row.map(|r| R::from_row(&r)).ok_or_else(|| DbError::not_found(R::TABLE.listing.what, id))?
}

fn taken<R: Record>(e: DbError, record: &R) -> DbError {
    e.taken(|u| match u {
        Unique::DeployTemplateName | Unique::RunbookName => Some(record.name().to_owned()),
        _ => Some(record.id().to_string()),
    })
}
