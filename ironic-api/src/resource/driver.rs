//! Drivers (`api.md` section 7), from what the living conductors offer.

use bessemer_model::{
    Json, JsonMap,
    conductor::DriverOffer,
    fault::{Fault, FaultKind},
};
use serde_json::json;

use super::raid::LOGICAL_DISK;
use crate::{
    links::Links,
    reply::Reply,
    request::{Api, Req},
    version::{Behaviour, FieldSet, FieldTable, Version, fields::DriverField, table::Listed},
};

use DriverField as F;

/// Fields of the short list.
const SHORT: &[DriverField] = &[F::Name, F::Hosts, F::Links, F::Properties, F::Type];

fn pair(base: &str, path: &str) -> Json {
    serde_json::to_value(Links { base, path }).unwrap_or_default()
}

fn render(name: &str, hosts: &[&str], offer: &DriverOffer, fields: FieldSet<DriverField>, base: &str) -> JsonMap {
    let mut m = JsonMap::new();
    for f in fields.iter() {
        match f {
            F::Name => m.insert("name".into(), name.into()),
            F::Hosts => m.insert("hosts".into(), json!(hosts)),
            F::Links => m.insert("links".into(), pair(base, &format!("drivers/{name}"))),
            F::Properties => m.insert("properties".into(), pair(base, &format!("drivers/{name}/properties"))),
            F::Type => m.insert("type".into(), "dynamic".into()),
            kind => {
                let kind = kind.name();
                m.insert(format!("default_{kind}_interface"), json!(offer.default.get(kind)));
                m.insert(format!("enabled_{kind}_interfaces"), json!(offer.enabled.get(kind).map_or(&[][..], Vec::as_slice)))
            }
        };
    }
    m
}

/// The row of the table that a name asked for belongs to.
fn row(name: &str) -> Option<DriverField> {
    let default = name.strip_prefix("default_").and_then(|n| n.strip_suffix("_interface"));
    let enabled = name.strip_prefix("enabled_").and_then(|n| n.strip_suffix("_interfaces"));
    match default.or(enabled) {
        Some(kind) => DriverField::named(kind).filter(|f| !SHORT.contains(f)),
        None => DriverField::named(name).filter(|f| SHORT.contains(f)),
    }
}

/// Which rows to render and, when fields were asked for, which keys to keep.
fn selection(req: &Req, detail: bool) -> Result<(FieldSet<DriverField>, Option<Vec<String>>), Fault> {
    let v: Version = req.version;
    let Some(names) = req.query.list("fields") else {
        return Ok((if detail { v.visible() } else { v.visible_of(SHORT) }, None));
    };
    let mut rows = Vec::new();
    for n in &names {
        let f = row(n).ok_or_else(|| Fault::invalid(format!("Field(s) \"{n}\" are not valid.")))?;
        rows.push(f.name().to_owned());
    }
    Ok((v.selected(&rows)?, Some(names)))
}

fn keep(mut m: JsonMap, names: Option<&Vec<String>>) -> Json {
    if let Some(names) = names {
        m.retain(|k, _| k == "links" || names.contains(k));
    }
    Json::Object(m)
}

/// `GET /v1/drivers`.
pub(crate) async fn list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let q = &req.query;
    q.only(&["type", "detail", "fields"])?;
    let detail = q.bool("detail")?.unwrap_or(false);
    if detail && q.get("fields").is_some() {
        return Err(Fault::invalid("A subset of fields cannot be fetched with \"detail\"."));
    }
    req.version.check_query(Listed::Drivers, q.names())?;
    let classic = match q.get("type") {
        None | Some("dynamic") => false,
        Some("classic") => true,
        Some(other) => return Err(Fault::invalid(format!("Driver type must be dynamic or classic, not \"{other}\"."))),
    };
    let (fields, names) = selection(req, detail)?;
    let conductors = api.ring.conductors().await?;
    let rows: Vec<Json> = if classic {
        vec![]
    } else {
        let all = conductors.drivers();
        all.iter().map(|(n, hosts, offer)| keep(render(n, hosts, offer, fields, &req.base), names.as_ref())).collect()
    };
    Reply::ok(&json!({ "drivers": rows }))
}

fn no_driver(name: &str) -> Fault {
    Fault::new(FaultKind::DriverNotFound, format!("Driver {} could not be found.", name.chars().take(255).collect::<String>()))
}

/// `GET /v1/drivers/{name}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    req.version.check_query(Listed::Drivers, req.query.names())?;
    let conductors = api.ring.conductors().await?;
    let all = conductors.drivers();
    let (name, hosts, offer) = all.iter().find(|(n, ..)| *n == req.param(0)).ok_or_else(|| no_driver(req.param(0)))?;
    let (fields, names) = selection(req, req.version.has(Behaviour::DriverDetails))?;
    Reply::ok(&keep(render(name, hosts, offer, fields, &req.base), names.as_ref()))
}

/// `GET /v1/drivers/{name}/properties`.
pub(crate) async fn properties(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    Reply::ok(&api.conductor.driver_properties(req.param(0)).await?)
}

/// `GET /v1/drivers/{name}/raid/logical_disk_properties`.
pub(crate) async fn raid(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let conductors = api.ring.conductors().await?;
    let all = conductors.drivers();
    let (_, _, offer) = all.iter().find(|(n, ..)| *n == req.param(0)).ok_or_else(|| no_driver(req.param(0)))?;
    match offer.default.get("raid").map(String::as_str) {
        None | Some("no-raid") => Err(Fault::new(FaultKind::NotFound, format!("Driver {} has no RAID support.", req.param(0)))),
        Some(_) => Reply::ok(&LOGICAL_DISK.iter().map(|(k, v)| (*k, *v)).collect::<std::collections::BTreeMap<_, _>>()),
    }
}
