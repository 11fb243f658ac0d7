//! Chassis (`api.md` section 6).

use std::fmt::Display;

use bessemer_db::{ChassisSort, DbError};
use bessemer_model::{
    JsonMap,
    chassis::Chassis,
    clock::Timestamp,
    fault::{Fault, FaultKind},
    ids::ChassisId,
};
use serde::ser::SerializeMap;
use serde_json::json;

use super::node_doc::Doc;
use crate::{
    links::Links,
    listing::{self, Listing, Look, PAGING, Show, View, detailed, fields_of_one, short},
    patch::Patch,
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req},
    version::{FieldTable, Version, fields::ChassisField},
};

use ChassisField as F;

const SHORT: &[ChassisField] = &[F::Uuid, F::Description, F::Links];

impl Show for Chassis {
    type Field = ChassisField;
    const KEY: &'static str = "chassis";
    fn identity(&self) -> impl Display {
        self.id
    }
    fn field<M: SerializeMap>(&self, f: ChassisField, look: Look<'_>, m: &mut M) -> Result<(), M::Error> {
        let k = f.name();
        match f {
            F::Uuid => m.serialize_entry(k, &self.id),
            F::CreatedAt => m.serialize_entry(k, &self.created_at.to_wire()),
            F::UpdatedAt => m.serialize_entry(k, &self.updated_at.map(|t| t.to_wire())),
            F::Description => m.serialize_entry(k, &self.description),
            F::Extra => m.serialize_entry(k, &self.extra),
            F::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("chassis/{}", self.id) }),
            // A list of one list: so it is in the contract.
            F::Nodes => m.serialize_entry(k, &[Links { base: look.base, path: format_args!("chassis/{}/nodes", self.id) }]),
        }
    }
}

/// Refuses unknown fields, also where no fields can be asked for yet.
fn check_fields(req: &Req) -> Result<(), Fault> {
    req.query.list("fields").map_or(Ok(()), |names| Version::MAX.selected::<ChassisField>(&names).map(drop))
}

/// The chassis that a path names; by UUID only.
async fn chassis_of_path(api: &Api, req: &Req) -> Result<Chassis, Fault> {
    let id = parse_uuid(req.param(0)).ok_or_else(|| Fault::invalid("Expected the UUID of a chassis."))?;
    Ok(api.store.chassis_get(ChassisId(id)).await?)
}

/// Refuses the UUID of a chassis that does not exist, where a body or a query names it.
///
/// # Errors
/// Of the kind given.
pub(super) async fn must_exist(api: &Api, id: uuid::Uuid, kind: FaultKind) -> Result<(), Fault> {
    match api.store.chassis_get(ChassisId(id)).await {
        Ok(_) => Ok(()),
        Err(DbError::NotFound { .. }) => Err(Fault::new(kind, format!("Chassis {id} could not be found."))),
        Err(e) => Err(e.into()),
    }
}

/// `GET /v1/chassis` and its detail.
pub(crate) async fn list(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    let form: &[&str] = if detail { &[] } else { &["fields", "detail"] };
    req.query.only(&[PAGING, form].concat())?;
    check_fields(req)?;
    let (shown, path) = if detail { (detailed(req), "chassis/detail") } else { (short(req, SHORT)?, "chassis") };
    let listing = Listing::read(api, req, shown, "id")?;
    let page = listing.page(req, sort_column)?;
    let all = api.store.chassis_list(&page).await?;
    listing::answer(req, &listing, path, &[], &all)
}

fn sort_column(f: ChassisField) -> Option<ChassisSort> {
    Some(match f {
        F::Uuid => ChassisSort::Uuid,
        F::CreatedAt => ChassisSort::CreatedAt,
        F::UpdatedAt => ChassisSort::UpdatedAt,
        F::Description => ChassisSort::Description,
        F::Extra | F::Links | F::Nodes => return None,
    })
}

/// `GET /v1/chassis/{uuid}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    check_fields(req)?;
    let chassis = chassis_of_path(api, req).await?;
    let fields = fields_of_one(req)?;
    Reply::ok(&View { one: &chassis, fields, look: Look::of(req) })
}

/// Reads a document into a chassis.
fn read(doc: &JsonMap, mut chassis: Chassis) -> Result<Chassis, Fault> {
    let d = Doc(doc);
    chassis.description = d.text("description", 255)?;
    chassis.extra = d.object("extra")?;
    Ok(chassis)
}

/// `POST /v1/chassis`.
pub(crate) async fn create(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    // Nothing is mandatory: without a body a chassis is made as well.
    let body = if req.body.is_empty() { JsonMap::new() } else { req.body.object()? };
    req.version.check_create::<ChassisField>(body.keys().map(String::as_str))?;
    let id = Doc(&body).uuid("uuid")?.map_or_else(ChassisId::random, ChassisId);
    let blank = Chassis { id, seq: 0, revision: 0, created_at: Timestamp(0), updated_at: None, description: None, extra: JsonMap::new() };
    let chassis = api.store.chassis_create(read(&body, blank)?).await?;
    listing::created(req, &chassis)
}

/// `PATCH /v1/chassis/{uuid}`.
pub(crate) async fn patch(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let patch = Patch::parse::<ChassisField>(&req.body.json()?, req.version, &[])?;
    let old = chassis_of_path(api, req).await?;
    let mut doc = JsonMap::new();
    doc.insert("uuid".into(), json!(old.id));
    doc.insert("description".into(), json!(old.description));
    doc.insert("extra".into(), old.extra.clone().into());
    patch.apply(&mut doc)?;
    if Doc(&doc).uuid("uuid")? != Some(old.id.0) {
        return Err(Fault::invalid("\"/uuid\" of a chassis cannot change."));
    }
    // Also a patch that changes nothing counts as an update.
    let revision = old.revision;
    let chassis = api.store.chassis_update(read(&doc, old)?, revision).await?;
    listing::whole(req, &chassis)
}

/// `DELETE /v1/chassis/{uuid}`.
pub(crate) async fn delete(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let chassis = chassis_of_path(api, req).await?;
    api.store.chassis_delete(chassis.id).await?;
    Ok(Reply::no_content())
}
