//! Allocations (`api.md` section 9).

use std::fmt::Display;

use bessemer_db::{AllocationFilter, AllocationSort, DbError};
use bessemer_model::{
    Json, JsonMap,
    allocation::{Allocation, AllocationState},
    clock::Timestamp,
    fault::{Fault, FaultKind},
    ids::{AllocationId, NodeId},
    node::Node,
    state::ProvisionState,
};
use serde::ser::SerializeMap;
use serde_json::json;

use super::{node_doc::Doc, traits::check_trait};
use crate::{
    links::Links,
    listing::{self, Listing, Look, PAGING, Show, View, detailed, fields_of_one},
    patch::Patch,
    policy::{Policy, Target},
    query::{Shown, parse_uuid, shown},
    reply::Reply,
    request::{Api, Req, is_loose_name, no_such_node},
    version::{Behaviour, FieldTable, fields::AllocationField, table::Listed},
};

use AllocationField as F;

/// How often a patch is applied again after somebody else wrote the same row.
const ATTEMPTS: u32 = 8;

impl Show for Allocation {
    type Field = AllocationField;
    const KEY: &'static str = "allocations";
    fn identity(&self) -> impl Display {
        self.id
    }
    fn field<M: SerializeMap>(&self, f: AllocationField, look: Look<'_>, m: &mut M) -> Result<(), M::Error> {
        let k = f.name();
        match f {
            F::Uuid => m.serialize_entry(k, &self.id),
            F::CreatedAt => m.serialize_entry(k, &self.created_at.to_wire()),
            F::UpdatedAt => m.serialize_entry(k, &self.updated_at.map(|t| t.to_wire())),
            F::Name => m.serialize_entry(k, &self.name),
            F::NodeUuid => m.serialize_entry(k, &self.node),
            F::State => m.serialize_entry(k, self.state.as_str()),
            F::LastError => m.serialize_entry(k, &self.last_error),
            F::ResourceClass => m.serialize_entry(k, &self.resource_class),
            F::Traits => m.serialize_entry(k, &self.traits),
            F::CandidateNodes => m.serialize_entry(k, &self.candidates),
            F::Extra => m.serialize_entry(k, &self.extra),
            F::Owner => m.serialize_entry(k, &self.owner),
            F::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("allocations/{}", self.id) }),
        }
    }
}

fn sort_column(f: AllocationField) -> Option<AllocationSort> {
    Some(match f {
        F::Uuid => AllocationSort::Uuid,
        F::CreatedAt => AllocationSort::CreatedAt,
        F::UpdatedAt => AllocationSort::UpdatedAt,
        F::Name => AllocationSort::Name,
        F::State => AllocationSort::State,
        F::LastError => AllocationSort::LastError,
        F::ResourceClass => AllocationSort::ResourceClass,
        F::Owner => AllocationSort::Owner,
        _ => return None,
    })
}

/// A node that a request names beside its subject: one that does not exist is a bad request.
async fn node_named(api: &Api, req: &Req, ident: &str) -> Result<Node, Fault> {
    api.node(req, ident).await.map_err(|f| if f.kind == FaultKind::NodeNotFound { Fault::invalid(f.detail) } else { f })
}

/// Likewise for one that the caller may not see: the answer does not tell which it is.
async fn visible_node_named(api: &Api, req: &Req, ident: &str) -> Result<Node, Fault> {
    let node = node_named(api, req, ident).await?;
    if req.rights.may(Policy::NodeGet, Target::node(&node)) { Ok(node) } else { Err(Fault::invalid(no_such_node(ident).detail)) }
}

/// Query parameters that narrow the list.
pub(crate) const FILTERS: &[&str] = &["node", "resource_class", "state", "owner"];

/// `GET /v1/allocations`.
pub(crate) async fn list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let q = &req.query;
    q.only(&[PAGING, FILTERS, &["fields"]].concat())?;
    req.version.check_query(Listed::Allocations, q.names())?;
    let shown = match shown(q, req.version)? {
        Some((set, named)) => Shown { set, named: Some(named), detail: None },
        None => detailed(req),
    };
    let listing = Listing::read(api, req, shown, "id")?;
    let page = listing.page(req, sort_column)?;
    let node = match q.get("node") {
        Some(ident) => Some(visible_node_named(api, req, ident).await?.id),
        None => None,
    };
    let owner = req.narrow.project().map(str::to_owned).or_else(|| q.text("owner"));
    let filter = AllocationFilter { node, resource_class: q.text("resource_class"), state: q.text("state"), owner };
    let rows = api.store.allocation_list(&filter, &page).await?;
    // Whoever may list may not see each: a service of the owner's project, for one.
    rows.iter().try_for_each(|a| req.rights.need(Policy::AllocationGet, Target::allocation(a.owner.as_deref())))?;
    listing::answer(req, &listing, "allocations", &[], &rows)
}

pub(crate) async fn of_path(api: &Api, req: &Req) -> Result<Allocation, Fault> {
    let ident = req.param(0);
    if parse_uuid(ident).is_none() && !is_loose_name(ident) {
        return Err(Fault::invalid("Expected the UUID or name of an allocation."));
    }
    Ok(api.store.allocation_get(ident).await?)
}

/// `GET /v1/allocations/{ident}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let one = of_path(api, req).await?;
    let fields = fields_of_one(req)?;
    Reply::ok(&View { one: &one, fields, look: Look::of(req) })
}

/// A list of texts; empty when absent.
fn texts(body: &JsonMap, key: &str) -> Result<Vec<String>, Fault> {
    let bad = || Fault::invalid(format!("\"{key}\" must be a list of texts."));
    match body.get(key) {
        None | Some(Json::Null) => Ok(Vec::new()),
        Some(Json::Array(a)) => a.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(bad)).collect(),
        Some(_) => Err(bad()),
    }
}

fn name(d: &Doc<'_>) -> Result<Option<String>, Fault> {
    let name = d.text("name", usize::MAX)?;
    match &name {
        Some(n) if !n.is_empty() && !is_loose_name(n) => {
            Err(Fault::invalid(format!("\"{}\" cannot be the name of an allocation.", n.chars().take(255).collect::<String>())))
        }
        _ => Ok(name),
    }
}

/// `POST /v1/allocations`.
pub(crate) async fn create(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let body = req.body.object()?;
    let backfill = req.version.has(Behaviour::AllocationBackfill);
    // That it is no text is told before that it is too new.
    Doc(&body).text("owner", usize::MAX)?;
    req.version.check_create::<AllocationField>(body.keys().map(String::as_str).filter(|k| !(backfill && *k == "node")))?;
    let d = Doc(&body);
    let filled = |t: Option<String>| t.filter(|s| !s.is_empty());
    let uuid = d.uuid("uuid")?;
    let traits = texts(&body, "traits")?;
    traits.iter().try_for_each(|t| check_trait(t))?;
    let mut wish = Allocation {
        id: AllocationId(uuid.unwrap_or_else(uuid::Uuid::new_v4)),
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        name: name(&d)?,
        node: None,
        state: AllocationState::Allocating,
        last_error: None,
        resource_class: filled(d.text("resource_class", 80)?),
        traits,
        candidates: Vec::new(),
        extra: d.object("extra")?,
        owner: filled(d.long_text("owner")?),
    };
    let named = filled(d.text("node", 255)?);
    if named.is_none() && wish.resource_class.is_none() {
        return Err(Fault::invalid("\"resource_class\" is required unless \"node\" is given."));
    }
    let project = own(req, &mut wish)?;
    for ident in texts(&body, "candidate_nodes")? {
        let node = node_named(api, req, &ident).await?;
        if project.is_some() && node.spec.owner != project && node.spec.lessee != project {
            return Err(Fault::invalid(no_such_node(&ident).detail));
        }
        wish.candidates.push(node.id);
    }
    let made = match named {
        None => {
            let made = api.store.allocation_create(wish).await?;
            api.conductor.allocations_wait();
            made
        }
        Some(ident) => {
            let node = visible_node_named(api, req, &ident).await?;
            if uuid.is_none()
                && let Some(instance) = node.spec.instance_uuid
            {
                wish.id = AllocationId(instance);
            }
            if wish.resource_class.is_none() {
                wish.resource_class.clone_from(&node.spec.resource_class);
            }
            let made = api.store.allocation_backfill(wish, node.id, refuse_backfill).await??;
            api.conductor.node_changed(node.id);
            made
        }
    };
    listing::created(req, &made)
}

/// Whose the allocation is: that of a caller of a project, who may name another only by a policy of its own. Gives the project whose
/// nodes the caller is confined to.
fn own(req: &Req, wish: &mut Allocation) -> Result<Option<String>, Fault> {
    if !req.rights.enforced() || req.rights.caller.system_scope.is_some() {
        return Ok(None);
    }
    let project = req.rights.caller.project_id.clone();
    let confined = !req.rights.may(Policy::AllocationCreateRestricted, Target::default());
    if wish.owner.is_none() {
        wish.owner.clone_from(&project);
    } else if confined && wish.owner != project {
        req.rights.need(Policy::AllocationCreateRestricted, Target::default())?;
    }
    Ok(project.filter(|_| confined))
}

fn refuse_backfill(a: &Allocation, n: &Node) -> Result<(), Fault> {
    let kind = if n.status.provision_state == ProvisionState::Active { FaultKind::Invalid } else { FaultKind::InvalidState };
    a.refuses_backfill(n).map_or(Ok(()), |why| Err(Fault::new(kind, why)))
}

/// `PATCH /v1/allocations/{ident}`.
pub(crate) async fn patch(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let patch = Patch::parse::<AllocationField>(&req.body.json()?, req.version, &[])?;
    let mut old = of_path(api, req).await?;
    for _ in 0..ATTEMPTS {
        let mut doc = JsonMap::new();
        doc.insert("name".into(), json!(old.name));
        doc.insert("extra".into(), Json::Object(old.extra.clone()));
        patch.apply(&mut doc)?;
        let d = Doc(&doc);
        let new = Allocation { name: name(&d)?, extra: d.object("extra")?, ..old.clone() };
        if new == old {
            return listing::whole(req, &old);
        }
        match api.store.allocation_update(new).await {
            Err(DbError::RevisionLost { .. }) => old = api.store.allocation_get(&old.id.to_string()).await?,
            done => return listing::whole(req, &done?),
        }
    }
    Err(Fault::new(FaultKind::NodeLocked, format!("Allocation {} is being changed by others all the time; repeat the request.", old.id)))
}

async fn free(api: &Api, id: AllocationId, node: Option<NodeId>) -> Result<Reply, Fault> {
    let refuse = |a: &Allocation, n: &Node| a.refuses_removal(n).map_or(Ok(()), |why| Err(Fault::new(FaultKind::InvalidState, why)));
    api.store.allocation_delete(id, refuse).await??;
    if let Some(n) = node {
        api.conductor.node_changed(n);
    }
    Ok(Reply::no_content())
}

/// `DELETE /v1/allocations/{ident}`.
pub(crate) async fn delete(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let a = of_path(api, req).await?;
    free(api, a.id, a.node).await
}

fn none_of(node: &Node) -> Fault {
    Fault::new(FaultKind::NotFound, format!("Allocation for node {} was not found.", node.id))
}

/// `GET /v1/nodes/{ident}/allocation`.
pub(crate) async fn show_of_node(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let fields = fields_of_one(req)?;
    let node = node_named(api, req, req.param(0)).await?;
    if !req.rights.may(Policy::NodeGet, Target::node(&node)) {
        return Err(no_such_node(req.param(0)));
    }
    let id = node.allocation.ok_or_else(|| none_of(&node))?;
    let one = api.store.allocation_get(&id.to_string()).await?;
    req.rights.need(Policy::AllocationGet, Target::allocation(one.owner.as_deref()))?;
    Reply::ok(&View { one: &one, fields, look: Look::of(req) })
}

/// `DELETE /v1/nodes/{ident}/allocation`.
pub(crate) async fn delete_of_node(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let id = node.allocation.ok_or_else(|| none_of(&node))?;
    let one = api.store.allocation_get(&id.to_string()).await?;
    req.rights.need(Policy::AllocationDelete, Target::allocation(one.owner.as_deref()))?;
    free(api, id, Some(node.id)).await
}
