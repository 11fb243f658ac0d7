//! Resources that are documents of their own (deploy templates, runbooks, inspection rules): list, show, create, patch and delete, once
//! for all of them. What differs is in [`Resource`].

use bessemer_db::{DbError, Record};
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    interface::InterfaceKind,
};
use serde::Serialize;
use uuid::Uuid;

use super::masking::Masked;
use crate::{
    listing::{self, Listing, Look, PAGING, Show, View, fields_of_one, short},
    patch::Patch,
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req, is_loose_name},
};

/// How often a patch is laid anew over what somebody else wrote meanwhile.
const RACES: usize = 8;

/// The filter of a list, and the parameters that the link to the next page repeats.
pub(crate) type Filtered<F> = (F, Vec<(&'static str, String)>);

/// A resource of this kind.
pub(crate) trait Resource: Show + Record {
    /// What its name is in texts.
    const WHAT: &'static str;
    /// Whether it has a name beside its UUID.
    const NAMED: bool;
    /// Fields of the short list.
    const SHORT: &'static [Self::Field];
    /// Query parameters of the list, beside the common ones.
    const FILTERS: &'static [&'static str] = &[];
    /// First segments that a patch may name beside its fields.
    const PATCH_ROOTS: &'static [&'static str] = &[];
    /// Path in the link to the next page.
    const NEXT: &'static str = Self::KEY;
    /// The column of a sort field.
    fn column(field: Self::Field) -> Option<Self::Sort>;
    /// Reads the list's filter, and what the link to the next page says of it.
    ///
    /// # Errors
    /// A malformed parameter.
    fn filter(req: &Req) -> Result<Filtered<Self::Filter>, Fault>;
    /// One that is still to be filled.
    fn blank(id: Uuid) -> Self;
    /// Reads the body of a creation.
    ///
    /// # Errors
    /// What is wrong with it.
    fn create(self, body: JsonMap, req: &Req) -> Result<Self, Fault>;
    /// The document that patches are applied to.
    fn document(&self) -> JsonMap;
    /// Checks the patch and reads the patched document.
    ///
    /// # Errors
    /// What is wrong with it.
    fn patched(&self, patch: &Patch, req: &Req) -> Result<Self, Fault>;
}

fn none<R: Resource>(ident: &str) -> Fault {
    Fault::new(FaultKind::NotFound, format!("{} {} could not be found.", R::WHAT, ident.chars().take(255).collect::<String>()))
}

/// The one that `ident` names.
///
/// # Errors
/// `InvalidParameterValue` for what can name none, `NotFound`.
pub(crate) async fn find<R: Resource>(api: &Api, req: &Req, ident: &str) -> Result<R, Fault> {
    let can_be = parse_uuid(ident).is_some() || (R::NAMED && is_loose_name(ident));
    if !can_be {
        let wanted = if R::NAMED { "a UUID or a name" } else { "a UUID" };
        return Err(Fault::invalid(format!("Expected {wanted} but received {}.", ident.chars().take(255).collect::<String>())));
    }
    match api.store.record_get::<R>(ident).await {
        Err(DbError::NotFound { .. }) if req.suffix_cut && R::NAMED => Ok(api.store.record_get(&format!("{ident}.json")).await?),
        other => Ok(other?),
    }
}

/// `GET` of the collection.
pub(crate) async fn list<R: Resource>(api: &Api, req: &Req) -> Result<Reply, Fault>
where
    R::Id: From<Uuid>,
    R::Sort: Default,
{
    req.query.only(&[PAGING, &["fields", "detail"], R::FILTERS].concat())?;
    let (filter, echo) = R::filter(req)?;
    let listing = Listing::read_beside_nodes(api, req, short(req, R::SHORT)?, "id")?;
    let marker = match req.query.get("marker").map(|m| (m, parse_uuid(m))) {
        None => None,
        Some((_, Some(id))) => Some(id),
        // What is no UUID names nothing.
        Some((m, None)) if R::NAMED && !is_loose_name(m) => return Err(Fault::invalid(format!("Expected a name for marker: {m}"))),
        Some(("", None)) => None,
        Some((m, None)) => return Err(none::<R>(m)),
    };
    let page = listing.page_after(marker, R::column)?;
    let rows: Vec<R> = api.store.record_list(&filter, &page).await?;
    let next = listing.next(req, R::NEXT, &[], rows.len(), rows.last().map(Show::identity));
    // The filters come first in this link.
    let said: String = echo.iter().map(|(k, v)| format!("{k}={v}&")).collect();
    let next = next.map(|n| n.replacen('?', &format!("?{said}"), 1));
    Reply::ok(&listing::Page { key: R::KEY, rows: &rows, next, fields: listing.shown.set, look: Look::of(req) })
}

/// `GET` of one.
pub(crate) async fn show<R: Resource>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let one: R = find(api, req, req.param(0)).await?;
    Reply::ok(&View { one: &one, fields: fields_of_one(req)?, look: Look::of(req) })
}

/// `POST`.
pub(crate) async fn create<R: Resource>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let body = req.body.object()?;
    let id = match body.get("uuid") {
        None | Some(Json::Null) => Uuid::new_v4(),
        Some(Json::String(s)) if s.is_empty() && !R::NAMED => Uuid::new_v4(),
        Some(v) => v.as_str().and_then(parse_uuid).ok_or_else(|| Fault::invalid("\"uuid\" must be a UUID."))?,
    };
    let given = body.get("steps").cloned();
    let one: R = api.store.record_create(R::blank(id).create(body, req)?).await?;
    let mut answer = serde_json::to_value(View { one: &one, fields: req.version.visible(), look: Look::of(req) })
        .map_err(|e| Fault::internal(e.to_string()))?;
    echo_numbers(&mut answer, given.as_ref());
    Reply::created(&answer, format!("{}/v1/{}/{}", req.base, R::KEY, one.identity()))
}

/// The answer to a creation shows the numbers of steps as they were given, digits as text included; later answers show numbers.
fn echo_numbers(answer: &mut Json, given: Option<&Json>) {
    let (Some(shown), Some(given)) = (answer.get_mut("steps").and_then(Json::as_array_mut), given.and_then(Json::as_array)) else { return };
    for (s, g) in shown.iter_mut().zip(given) {
        for key in ["priority", "order"] {
            if let (Some(s), Some(g)) = (s.get_mut(key), g.get(key)) {
                *s = g.clone();
            }
        }
    }
}

/// `PATCH`.
pub(crate) async fn patch<R: Resource>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let patch = Patch::parse::<R::Field>(&req.body.json()?, req.version, R::PATCH_ROOTS)?;
    let mut left = RACES;
    loop {
        let old: R = find(api, req, req.param(0)).await?;
        let new = old.patched(&patch, req)?;
        let revision = old.revision();
        match api.store.record_update(new, revision).await {
            Ok(one) => return listing::whole(req, &one),
            Err(DbError::RevisionLost { .. }) if left > 0 => left -= 1,
            Err(e) => return Err(e.into()),
        }
    }
}

/// `DELETE`.
pub(crate) async fn delete<R: Resource>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let one: R = find(api, req, req.param(0)).await?;
    api.store.record_delete::<R>(one.id()).await?;
    Ok(Reply::no_content())
}

/// Typed access to a document: the types are exact, null counts as absent.
pub(crate) struct Strict<'a>(pub &'a JsonMap);

impl Strict<'_> {
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(key).filter(|v| !v.is_null())
    }
    /// A boolean.
    pub fn flag(&self, key: &str) -> Result<bool, Fault> {
        match self.get(key) {
            None => Ok(false),
            Some(v) => v.as_bool().ok_or_else(|| Fault::invalid(format!("\"{key}\" must be true or false."))),
        }
    }
    /// The steps, each read by `one`. At least one; interface and step together at most once.
    pub fn steps<T>(&self, one: impl Fn(&StepDoc<'_>) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let list = self.get("steps").ok_or_else(|| Fault::missing("\"steps\" is a required property."))?;
        let list =
            list.as_array().filter(|l| !l.is_empty()).ok_or_else(|| Fault::invalid("\"steps\" must be a list that is not empty."))?;
        let mut seen = std::collections::HashSet::new();
        let mut out = Vec::with_capacity(list.len());
        for s in list {
            let m = s.as_object().ok_or_else(|| Fault::invalid("Each of \"steps\" must be an object."))?;
            let doc = StepDoc(m);
            if !seen.insert((doc.interface()?, doc.name()?)) {
                return Err(Fault::invalid(format!(
                    "\"steps\" holds {}.{} twice; an interface and a step may come together once.",
                    doc.interface()?.as_str(),
                    doc.name()?
                )));
            }
            out.push(one(&doc)?);
        }
        Ok(out)
    }
}

/// A step of a document.
pub(crate) struct StepDoc<'a>(&'a JsonMap);

impl<'a> StepDoc<'a> {
    pub fn of(step: &'a JsonMap) -> Self {
        Self(step)
    }
    fn bad(what: &str) -> Fault {
        Fault::invalid(format!("A step: {what}."))
    }
    /// Refuses keys that a step does not have.
    pub fn only(&self, known: &[&str]) -> Result<(), Fault> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            Some(k) => Err(Self::bad(&format!("\"{k}\" is not known"))),
            None => Ok(()),
        }
    }
    pub fn interface(&self) -> Result<InterfaceKind, Fault> {
        let kind = self.0.get("interface").and_then(Json::as_str).and_then(InterfaceKind::parse);
        kind.filter(|k| k.has_steps()).ok_or_else(|| Self::bad("\"interface\" must name an interface that has steps"))
    }
    pub fn name(&self) -> Result<&'a str, Fault> {
        self.0.get("step").and_then(Json::as_str).filter(|s| !s.is_empty()).ok_or_else(|| Self::bad("\"step\" must be text"))
    }
    /// The arguments; `None` when absent.
    pub fn args(&self) -> Result<Option<JsonMap>, Fault> {
        match self.0.get("args") {
            None => Ok(None),
            Some(Json::Object(m)) => Ok(Some(m.clone())),
            Some(_) => Err(Self::bad("\"args\" must be an object")),
        }
    }
    /// A whole number that is not negative, or its digits.
    pub fn number(&self, key: &str) -> Result<u32, Fault> {
        let n = match self.0.get(key) {
            None => return Err(Self::bad(&format!("\"{key}\" is a required property"))),
            Some(v @ Json::Number(_)) => whole(v).and_then(|n| u32::try_from(n).ok()),
            Some(Json::String(s)) if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) => s.parse().ok(),
            Some(_) => None,
        };
        n.ok_or_else(|| Self::bad(&format!("\"{key}\" must be a whole number that is not negative")))
    }
}

/// A whole number; `2.0` is one too.
pub(crate) fn whole(v: &Json) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "checked: no fraction and well within the range")]
    v.as_i64().or_else(|| v.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i64))
}

/// A step as answers show it.
#[derive(Serialize)]
pub(crate) struct StepView<'a> {
    pub interface: InterfaceKind,
    pub step: &'a str,
    pub args: Masked<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
}

/// Steps after a patch: those that stayed keep their places, the others follow in the order given.
pub(crate) fn kept_first<T: PartialEq + Clone>(old: &[T], mut new: Vec<T>) -> Vec<T> {
    let mut out = Vec::with_capacity(new.len());
    for o in old {
        if let Some(i) = new.iter().position(|n| n == o) {
            out.push(new.remove(i));
        }
    }
    out.extend(new);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_step_moves_behind_those_that_stayed() {
        assert_eq!(kept_first(&[1, 2, 3], vec![9, 1, 3]), [1, 3, 9]);
        assert_eq!(kept_first(&[1, 2], vec![2, 1]), [1, 2]);
    }
}
