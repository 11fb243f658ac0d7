//! Lists and single resources, the parts that every resource shares (`api.md` section 1.6): what a list request asks for, the link to
//! the next page, and rendering field by field.
//!
//! A resource implements [`Show`]; a list handler reads [`Listing`], asks the store for a page and answers [`Page`]; a handler of one
//! answers [`View`].

use std::fmt::Display;

use bessemer_db::Page as StorePage;
use bessemer_model::fault::Fault;
use serde::{Serialize, Serializer, ser::SerializeMap};
use uuid::Uuid;

use crate::{
    links::next_page,
    query::{Shown, shown, shown_in_list},
    reply::Reply,
    request::{Api, Req},
    version::{FieldSet, FieldTable, Version, fields::NodeField},
};

/// Query parameters of every list; a list adds its filters, and `fields` and `detail` where it has a short form.
pub(crate) const PAGING: &[&str] = &["limit", "marker", "sort_key", "sort_dir"];

/// What the short form of a list shows: the fields asked for, all with `detail`, or `short`.
///
/// # Errors
/// As [`shown_in_list`].
pub(crate) fn short<F: FieldTable>(req: &Req, short: &[F]) -> Result<Shown<F>, Fault> {
    shown_in_list(&req.query, req.version, short)
}

/// What the detailed form of a list shows.
pub(crate) fn detailed<F: FieldTable>(req: &Req) -> Shown<F> {
    Shown { set: req.version.listed(), named: None, detail: None }
}

/// What the answer about one resource shows: the fields asked for, or all.
///
/// # Errors
/// Unknown or too new fields.
pub(crate) fn fields_of_one<F: FieldTable>(req: &Req) -> Result<FieldSet<F>, Fault> {
    let visible = req.version.visible();
    Ok(shown(&req.query, req.version)?.map_or(visible, |(set, _)| set.and(visible)))
}

/// Which rows a list request asks for, and in which order.
pub(crate) struct Listing<F> {
    pub shown: Shown<F>,
    pub limit: u32,
    sort_key: String,
    /// `None` = order of creation.
    pub sort: Option<F>,
    pub desc: bool,
}

impl<F: FieldTable> Listing<F> {
    /// Reads limit and order; the marker is left to the caller, who knows what it names.
    ///
    /// # Errors
    /// `InvalidParameterValue`; `NotAcceptable` for a sort key of a later microversion.
    pub fn read(api: &Api, req: &Req, shown: Shown<F>, usual_key: &str) -> Result<Self, Fault> {
        let q = &req.query;
        let limit = q.limit(api.config.max_limit)?;
        let sort_key = q.get("sort_key").filter(|k| !k.is_empty()).unwrap_or(usual_key).to_owned();
        let desc = q.descending()?;
        let sort = req.version.sort_field::<F>(&sort_key)?;
        Ok(Self { shown, limit, sort_key, sort, desc })
    }

    /// As [`Self::read`] for lists whose sort key is refused, as too new, by the names of the fields that nodes did not have yet.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_beside_nodes(api: &Api, req: &Req, shown: Shown<F>, usual_key: &str) -> Result<Self, Fault> {
        req.query.get("sort_key").map_or(Ok(()), |k| req.version.not_too_new::<NodeField>(k))?;
        Self::read(api, req, shown, usual_key)
    }

    /// The page of the store that this is; `column` tells the store's name of a sort field.
    ///
    /// # Errors
    /// A marker that is not a UUID, a field that cannot be sorted by.
    pub fn page<Id: From<Uuid>, Sort: Default>(&self, req: &Req, column: impl Fn(F) -> Option<Sort>) -> Result<StorePage<Id, Sort>, Fault> {
        self.page_after(req.query.uuid("marker")?, column)
    }

    /// As [`Self::page`], after the entry of this UUID.
    ///
    /// # Errors
    /// A field that cannot be sorted by.
    pub fn page_after<Id: From<Uuid>, Sort: Default>(
        &self,
        marker: Option<Uuid>,
        column: impl Fn(F) -> Option<Sort>,
    ) -> Result<StorePage<Id, Sort>, Fault> {
        let sort = match self.sort {
            None => Sort::default(),
            Some(f) => column(f).ok_or_else(|| Fault::invalid(format!("\"{}\" cannot be sorted by.", f.name())))?,
        };
        Ok(StorePage { limit: self.limit, marker: marker.map(Id::from), sort, desc: self.desc })
    }

    /// The address of the next page, if a page of `count` rows that ends with `last` is full. `filters` are echoed.
    pub fn next(&self, req: &Req, path: &str, filters: &[(&str, String)], count: usize, last: Option<impl Display>) -> Option<String> {
        let last = last.filter(|_| count == self.limit as usize)?;
        let mut args = vec![("sort_key", self.sort_key.clone()), ("sort_dir", if self.desc { "desc" } else { "asc" }.to_owned())];
        args.extend(filters.iter().map(|(k, v)| (*k, v.clone())));
        if let Some(d) = self.shown.detail {
            args.push(("detail", if d { "True" } else { "False" }.to_owned()));
        }
        if let Some(names) = self.shown.named.as_ref().filter(|n| !n.is_empty()) {
            args.push(("fields", names.join(",")));
        }
        Some(next_page(&req.base, path, &args, self.limit, last))
    }
}

/// What rendering needs to know of the request.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub version: Version,
    /// Public base address, no trailing slash.
    pub base: &'a str,
}

impl<'a> Look<'a> {
    /// That of a request.
    pub fn of(req: &'a Req) -> Self {
        Self { version: req.version, base: &req.base }
    }
}

/// A resource that is shown field by field.
pub(crate) trait Show {
    /// Its fields.
    type Field: FieldTable;
    /// Key of its lists, which is also their path below `/v1`.
    const KEY: &'static str;
    /// What names it in links and as a marker.
    fn identity(&self) -> impl Display;
    /// Writes one field.
    ///
    /// # Errors
    /// The serializer's.
    fn field<M: SerializeMap>(&self, field: Self::Field, look: Look<'_>, m: &mut M) -> Result<(), M::Error>;
}

/// One resource as JSON: only the fields asked for.
pub(crate) struct View<'a, R: Show> {
    pub one: &'a R,
    pub fields: FieldSet<R::Field>,
    pub look: Look<'a>,
}

impl<R: Show> Serialize for View<'_, R> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(None)?;
        for f in self.fields.iter() {
            self.one.field(f, self.look, &mut m)?;
        }
        m.end()
    }
}

/// The answer about one resource, with every field that the microversion shows.
///
/// # Errors
/// Rendering failed.
pub(crate) fn whole<R: Show>(req: &Req, one: &R) -> Result<Reply, Fault> {
    Reply::ok(&View { one, fields: req.version.visible(), look: Look::of(req) })
}

/// The answer to a creation.
///
/// # Errors
/// Rendering failed.
pub(crate) fn created<R: Show>(req: &Req, one: &R) -> Result<Reply, Fault> {
    let view = View { one, fields: req.version.visible(), look: Look::of(req) };
    Reply::created(&view, format!("{}/v1/{}/{}", req.base, R::KEY, one.identity()))
}

/// A list as JSON.
pub(crate) struct Page<'a, R: Show> {
    /// Key of the list; mostly [`Show::KEY`].
    pub key: &'static str,
    pub rows: &'a [R],
    pub next: Option<String>,
    pub fields: FieldSet<R::Field>,
    pub look: Look<'a>,
}

struct Rows<'a, R: Show>(&'a Page<'a, R>);

impl<R: Show> Serialize for Rows<'_, R> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let p = self.0;
        s.collect_seq(p.rows.iter().map(|one| View { one, fields: p.fields, look: p.look }))
    }
}

impl<R: Show> Serialize for Page<'_, R> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(None)?;
        m.serialize_entry(self.key, &Rows(self))?;
        if let Some(next) = &self.next {
            m.serialize_entry("next", next)?;
        }
        m.end()
    }
}

/// The answer to a list request: `rows` as the page of `listing` at `path`.
///
/// # Errors
/// Rendering failed.
pub(crate) fn answer<R: Show>(
    req: &Req,
    listing: &Listing<R::Field>,
    path: &str,
    filters: &[(&str, String)],
    rows: &[R],
) -> Result<Reply, Fault> {
    let next = listing.next(req, path, filters, rows.len(), rows.last().map(Show::identity));
    Reply::ok(&Page { key: R::KEY, rows, next, fields: listing.shown.set, look: Look::of(req) })
}
