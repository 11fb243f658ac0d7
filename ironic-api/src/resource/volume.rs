//! Volume connectors and targets (`api.md` section 10): the same requests over two kinds.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use bessemer_db::{DbError, VolumeDetail, VolumeFilter, VolumeSort};
use bessemer_model::{
    Json, JsonMap,
    clock::Timestamp,
    fault::{Fault, FaultKind},
    ids::{NodeId, VolumeId},
    node::Node,
    state::PowerState,
    volume::{Connector, Target, Volume},
};
use serde::ser::SerializeMap;
use serde_json::json;

use super::{masking::Masked, node_doc::Doc};
use crate::{
    links::Links,
    listing::{self, Listing, Look, PAGING, Page, Show, View, fields_of_one},
    patch::Patch,
    policy::{Policy, Target as About, linked_node},
    query::{Shown, parse_uuid, shown},
    reply::Reply,
    request::{Api, Req},
    version::{
        FieldTable,
        fields::{ConnectorField, TargetField},
    },
};

/// How often a patch is applied again after somebody else wrote the same row.
const ATTEMPTS: u32 = 8;
/// How long a request waits for a power action to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// Longest text; the columns have no limit of their own.
const TEXT: usize = 65_535;

/// A value of one field, as it is rendered.
pub(crate) enum Part<'a> {
    Uuid,
    CreatedAt,
    UpdatedAt,
    Node,
    Extra,
    Links,
    Text(&'a str),
    Int(i64),
    /// Free-form, secrets hidden.
    Map(&'a JsonMap),
}

/// A kind of volume resource.
pub(crate) trait Kind: VolumeDetail + PartialEq + Default {
    /// Its fields.
    type Field: FieldTable;
    /// What it is called.
    const NAME: &'static str;
    /// Key of its lists.
    const KEY: &'static str;
    /// Path of its lists below `/v1`.
    const PATH: &'static str;
    /// Fields of the short list, in the order that links to the next page name them.
    const SHORT: &'static [Self::Field];
    /// The value of a field.
    fn part(&self, f: Self::Field) -> Part<'_>;
    /// The column behind a field that can be sorted by.
    fn sort(f: Self::Field) -> Option<VolumeSort>;
    /// Reads the kind's own attributes of a document.
    fn read(d: &Doc<'_>) -> Result<Self, Fault>;
    /// Writes them into a document.
    fn write(&self, m: &mut JsonMap);
    /// Hides what only those see who may (`security.md` section 4).
    fn redact(&mut self);
}

/// A row as the caller may see it.
fn seen<D: Kind>(req: &Req, mut v: Volume<D>) -> Volume<D> {
    if !req.rights.may(Policy::VolumeViewTargetProperties, About::default()) {
        v.detail.redact();
    }
    v
}

fn required(d: &Doc<'_>, key: &str) -> Result<String, Fault> {
    d.text(key, TEXT)?.ok_or_else(|| Fault::missing(format!("\"{key}\" is required.")))
}

impl Kind for Connector {
    type Field = ConnectorField;
    const NAME: &'static str = "volume connector";
    const KEY: &'static str = "connectors";
    const PATH: &'static str = "volume/connectors";
    const SHORT: &'static [ConnectorField] = {
        use ConnectorField as F;
        &[F::Uuid, F::NodeUuid, F::Type, F::ConnectorId, F::Links]
    };
    fn part(&self, f: ConnectorField) -> Part<'_> {
        use ConnectorField as F;
        match f {
            F::Uuid => Part::Uuid,
            F::CreatedAt => Part::CreatedAt,
            F::UpdatedAt => Part::UpdatedAt,
            F::NodeUuid => Part::Node,
            F::Extra => Part::Extra,
            F::Links => Part::Links,
            F::Type => Part::Text(&self.kind),
            F::ConnectorId => Part::Text(&self.connector_id),
        }
    }
    fn sort(f: ConnectorField) -> Option<VolumeSort> {
        use ConnectorField as F;
        Some(match f {
            F::Uuid => VolumeSort::Uuid,
            F::CreatedAt => VolumeSort::CreatedAt,
            F::UpdatedAt => VolumeSort::UpdatedAt,
            F::Type => VolumeSort::Type,
            F::ConnectorId => VolumeSort::ConnectorId,
            _ => return None,
        })
    }
    fn read(d: &Doc<'_>) -> Result<Self, Fault> {
        Ok(Self { kind: required(d, "type")?, connector_id: required(d, "connector_id")? })
    }
    fn write(&self, m: &mut JsonMap) {
        m.insert("type".into(), json!(self.kind));
        m.insert("connector_id".into(), json!(self.connector_id));
    }
    fn redact(&mut self) {}
}

impl Kind for Target {
    type Field = TargetField;
    const NAME: &'static str = "volume target";
    const KEY: &'static str = "targets";
    const PATH: &'static str = "volume/targets";
    const SHORT: &'static [TargetField] = {
        use TargetField as F;
        &[F::Uuid, F::NodeUuid, F::VolumeType, F::BootIndex, F::VolumeId, F::Links]
    };
    fn part(&self, f: TargetField) -> Part<'_> {
        use TargetField as F;
        match f {
            F::Uuid => Part::Uuid,
            F::CreatedAt => Part::CreatedAt,
            F::UpdatedAt => Part::UpdatedAt,
            F::NodeUuid => Part::Node,
            F::Extra => Part::Extra,
            F::Links => Part::Links,
            F::VolumeType => Part::Text(&self.volume_type),
            F::VolumeId => Part::Text(&self.volume_id),
            F::BootIndex => Part::Int(self.boot_index),
            F::Properties => Part::Map(&self.properties),
        }
    }
    fn sort(f: TargetField) -> Option<VolumeSort> {
        use TargetField as F;
        Some(match f {
            F::Uuid => VolumeSort::Uuid,
            F::CreatedAt => VolumeSort::CreatedAt,
            F::UpdatedAt => VolumeSort::UpdatedAt,
            F::VolumeType => VolumeSort::VolumeType,
            F::VolumeId => VolumeSort::VolumeId,
            F::BootIndex => VolumeSort::BootIndex,
            _ => return None,
        })
    }
    fn read(d: &Doc<'_>) -> Result<Self, Fault> {
        let boot_index = d.integer("boot_index")?.ok_or_else(|| Fault::missing("\"boot_index\" is required."))?;
        Ok(Self {
            volume_type: required(d, "volume_type")?,
            volume_id: required(d, "volume_id")?,
            boot_index,
            properties: d.object("properties")?,
        })
    }
    fn write(&self, m: &mut JsonMap) {
        m.insert("volume_type".into(), json!(self.volume_type));
        m.insert("volume_id".into(), json!(self.volume_id));
        m.insert("boot_index".into(), json!(self.boot_index));
        m.insert("properties".into(), Json::Object(self.properties.clone()));
    }
    fn redact(&mut self) {
        let why = "** Value redacted: Requires permission baremetal:volume:view_target_properties access. Permission denied. **";
        self.properties = JsonMap::from_iter([("redacted_contents".to_owned(), json!(why))]);
    }
}

impl<D: Kind> Show for Volume<D> {
    type Field = D::Field;
    const KEY: &'static str = D::PATH;
    fn identity(&self) -> impl Display {
        self.id
    }
    fn field<M: SerializeMap>(&self, f: D::Field, look: Look<'_>, m: &mut M) -> Result<(), M::Error> {
        let k = f.name();
        match self.detail.part(f) {
            Part::Uuid => m.serialize_entry(k, &self.id),
            Part::CreatedAt => m.serialize_entry(k, &self.created_at.to_wire()),
            Part::UpdatedAt => m.serialize_entry(k, &self.updated_at.map(|t| t.to_wire())),
            Part::Node => m.serialize_entry(k, &self.node),
            Part::Extra => m.serialize_entry(k, &self.extra),
            Part::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("{}/{}", D::PATH, self.id) }),
            Part::Text(s) => m.serialize_entry(k, s),
            Part::Int(n) => m.serialize_entry(k, &n),
            Part::Map(p) => m.serialize_entry(k, &Masked::new(p)),
        }
    }
}

/// Which fields a list shows. `detail` is as old as these resources, and only its `true` is echoed.
fn wanted<D: Kind>(req: &Req) -> Result<Shown<D::Field>, Fault> {
    let detail = req.query.bool("detail")?.filter(|d| *d);
    match shown(&req.query, req.version)? {
        Some((_, named)) if detail.is_some() && !named.is_empty() => {
            Err(Fault::invalid("A subset of fields cannot be fetched with \"detail\"."))
        }
        Some((set, mut named)) => {
            named.retain(|n| n != "links");
            Ok(Shown { set, named: Some(named), detail })
        }
        None if detail.is_some() => Ok(Shown { set: req.version.visible(), named: None, detail }),
        None => {
            let named = D::SHORT.iter().map(|f| f.name().to_owned()).filter(|n| n != "links").collect();
            Ok(Shown { set: req.version.visible_of(D::SHORT), named: Some(named), detail })
        }
    }
}

async fn collection<D: Kind>(api: &Api, req: &Req, shown: Shown<D::Field>, node: Option<NodeId>) -> Result<Reply, Fault> {
    let listing = Listing::read(api, req, shown, "id")?;
    let page = listing.page(req, D::sort)?;
    let filter = VolumeFilter { node, project: req.narrow.project().map(str::to_owned) };
    let rows: Vec<_> = api.store.volume_list::<D>(&filter, &page).await?.into_iter().map(|v| seen(req, v)).collect();
    let next = listing.next(req, D::PATH, &[], rows.len(), rows.last().map(|v| v.id));
    Reply::ok(&Page { key: <D as Kind>::KEY, rows: &rows, next, fields: listing.shown.set, look: Look::of(req) })
}

/// `GET /v1/volume/connectors` and `targets`.
pub(crate) async fn list<D: Kind>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[PAGING, &["node", "fields", "detail"]].concat())?;
    let shown = wanted::<D>(req)?;
    let node = match req.query.get("node") {
        Some(ident) => Some(api.node(req, ident).await?.id),
        None => None,
    };
    collection::<D>(api, req, shown, node).await
}

/// `GET /v1/nodes/{uuid}/volume/connectors` and `targets`.
pub(crate) async fn list_of_node<D: Kind>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[PAGING, &["node", "fields", "detail"]].concat())?;
    let shown = wanted::<D>(req)?;
    if req.query.get("node") == Some("") {
        return Err(Fault::invalid("Expected the UUID or name of a node for \"node\"."));
    }
    let node = api.node_by_uuid_only(req.param(0)).await?;
    collection::<D>(api, req, shown, Some(node)).await
}

fn id_of(ident: &str) -> Result<VolumeId, Fault> {
    let shown: String = ident.chars().take(255).collect();
    parse_uuid(ident).map(VolumeId).ok_or_else(|| Fault::invalid(format!("Expected a UUID but received {shown}.")))
}

/// `GET /v1/volume/…/{uuid}`.
pub(crate) async fn show<D: Kind>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let id = id_of(req.param(0))?;
    let volume = seen(req, api.store.volume_get::<D>(id).await?);
    let fields = fields_of_one(req)?;
    Reply::ok(&View { one: &volume, fields, look: Look::of(req) })
}

/// The node of one, for asking the policies.
pub(crate) async fn node_of<D: Kind>(api: &Api, ident: &str) -> Result<Node, Fault> {
    let volume = api.store.volume_get::<D>(id_of(ident)?).await?;
    Ok(api.store.node_get(volume.node).await?)
}

/// A request for one below a node: these are found at `/v1/volume` only.
pub(crate) async fn misplaced<D: Kind>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    api.store.volume_get::<D>(id_of(req.param(1))?).await?;
    Err(Fault::invalid(format!("Malformed request URI: use /v1/{}/{}.", D::PATH, req.param(1))))
}

/// The node that a document names by UUID.
async fn owner(api: &Api, doc: &JsonMap) -> Result<Node, Fault> {
    let id = Doc(doc).uuid("node_uuid")?.ok_or_else(|| Fault::missing("\"node_uuid\" is required."))?;
    match api.store.node_get(NodeId(id)).await {
        Err(DbError::NotFound { .. }) => Err(Fault::invalid(format!("\"node_uuid\": node {id} could not be found."))),
        other => Ok(other?),
    }
}

/// `POST /v1/volume/…`.
pub(crate) async fn create<D: Kind>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let body = req.body.object()?;
    req.version.check_create::<D::Field>(body.keys().map(String::as_str))?;
    let d = Doc(&body);
    let id = d.uuid("uuid")?.map_or_else(VolumeId::random, VolumeId);
    let (detail, extra) = (D::read(&d)?, d.object("extra")?);
    let node = owner(api, &body).await?.id;
    let volume = Volume { id, seq: 0, revision: 0, created_at: Timestamp(0), updated_at: None, node, extra, detail };
    listing::created(req, &seen(req, api.store.volume_create(volume).await?))
}

/// `PATCH /v1/volume/…/{uuid}`.
pub(crate) async fn patch<D: Kind>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let id = id_of(req.param(0))?;
    let patch = Patch::parse::<D::Field>(&req.body.json()?, req.version, &[])?;
    for _ in 0..ATTEMPTS {
        let old = api.store.volume_get::<D>(id).await?;
        let mut doc = JsonMap::new();
        old.detail.write(&mut doc);
        doc.insert("extra".into(), Json::Object(old.extra.clone()));
        doc.insert("node_uuid".into(), json!(old.node));
        patch.apply(&mut doc)?;
        let d = Doc(&doc);
        // Who removes the node leaves it as it is.
        let mut node = at_rest(api, old.node).await?;
        if patch.assigns("node_uuid") {
            let wanted = d.uuid("node_uuid")?.ok_or_else(|| Fault::invalid("\"node_uuid\" must be the UUID of a node."))?;
            node = linked_node(api, req, "node_uuid", &wanted.to_string(), node.spec.owner.as_deref()).await?;
        }
        let new = Volume { detail: D::read(&d)?, extra: d.object("extra")?, node: node.id, ..old.clone() };
        if node.status.power_state != Some(PowerState::Off) {
            return Err(still_on::<D>(&node, "update"));
        }
        if new == old {
            return listing::whole(req, &seen(req, old));
        }
        match api.store.volume_update(new).await {
            Err(DbError::RevisionLost { .. }) => {}
            done => return listing::whole(req, &seen(req, done?)),
        }
    }
    Err(Fault::new(FaultKind::NodeLocked, format!("{} {id} is being changed by others all the time; repeat the request.", D::PATH)))
}

/// The node once its power is not about to change: what is being powered off is waited for.
async fn at_rest(api: &Api, id: NodeId) -> Result<Node, Fault> {
    let until = Instant::now() + PATIENCE;
    loop {
        let node = api.store.node_get(id).await?;
        let Some(target) = node.status.target_power_state else { return Ok(node) };
        if Instant::now() >= until {
            let text = format!("Node {id} is still on its way to {}; repeat the request when it is there.", target.as_str());
            return Err(Fault::new(FaultKind::NodeLocked, text));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn still_on<D: Kind>(node: &Node, action: &str) -> Fault {
    let power = node.status.power_state.map_or("not known", PowerState::as_str);
    // The words are those of other refused actions: clients look for them.
    let text = format!(
        "The requested action \"{} {action}\" can not be performed on node \"{}\" while it is in state \"{power}\": power it off first.",
        D::NAME,
        node.id
    );
    Fault::new(FaultKind::InvalidStateRequested, text)
}

/// `DELETE /v1/volume/…/{uuid}`.
pub(crate) async fn delete<D: Kind>(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let volume = api.store.volume_get::<D>(id_of(req.param(0))?).await?;
    let node = at_rest(api, volume.node).await?;
    if node.status.power_state != Some(PowerState::Off) && !node.status.provision_state.delete_allowed() {
        return Err(still_on::<D>(&node, "deletion"));
    }
    api.store.volume_delete::<D>(volume.id).await?;
    Ok(Reply::no_content())
}
