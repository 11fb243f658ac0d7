//! Conductors (`api.md` section 8).

use std::collections::HashSet;

use bessemer_model::{
    Json, JsonMap,
    clock::{Clock, SystemClock},
    conductor::Conductor,
    fault::{Fault, FaultKind},
};
use serde_json::json;

use crate::{
    links::Links,
    listing::{Listing, PAGING, fields_of_one, short},
    reply::Reply,
    request::{Api, Req},
    version::{FieldSet, FieldTable, fields::ConductorField},
};

use ConductorField as F;

const SHORT: &[ConductorField] = &[F::Hostname, F::ConductorGroup, F::Alive, F::Links];

fn render(c: &Conductor, alive: &HashSet<String>, fields: FieldSet<ConductorField>, base: &str) -> Json {
    let mut m = JsonMap::new();
    for f in fields.iter() {
        let value = match f {
            F::Hostname => json!(c.hostname),
            F::ConductorGroup => json!(c.conductor_group),
            F::Alive => json!(alive.contains(&c.hostname)),
            F::Drivers => json!(c.drivers.keys().collect::<Vec<_>>()),
            F::CreatedAt => json!(c.created_at.to_wire()),
            F::UpdatedAt => json!(c.updated_at.to_wire()),
            F::Links => serde_json::to_value(Links { base, path: format_args!("conductors/{}", c.hostname) }).unwrap_or_default(),
        };
        m.insert(f.name().to_owned(), value);
    }
    Json::Object(m)
}

/// Whose lease holds: the store knows whose clock judges that.
async fn alive(api: &Api) -> Result<HashSet<String>, Fault> {
    Ok(api.store.conductor_list_alive(SystemClock.now()).await?.into_iter().map(|c| c.hostname).collect())
}

fn not_found(name: &str) -> Fault {
    Fault::new(FaultKind::ConductorNotFound, format!("Conductor {} could not be found.", name.chars().take(255).collect::<String>()))
}

/// `GET /v1/conductors`.
pub(crate) async fn list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let q = &req.query;
    q.only(&[PAGING, &["fields", "detail"]].concat())?;
    let listing = Listing::read_beside_nodes(api, req, short(req, SHORT)?, "id")?;
    let mut all = api.store.conductor_list().await?;
    let alive = alive(api).await?;
    all.sort_by(|a, b| {
        let by_field = match listing.sort {
            Some(F::Hostname) => a.hostname.cmp(&b.hostname),
            Some(F::ConductorGroup) => a.conductor_group.cmp(&b.conductor_group),
            Some(F::CreatedAt) => a.created_at.cmp(&b.created_at),
            Some(F::UpdatedAt) => a.updated_at.cmp(&b.updated_at),
            _ => std::cmp::Ordering::Equal,
        };
        by_field.then(a.seq.cmp(&b.seq))
    });
    if listing.desc {
        all.reverse();
    }
    let skip = match q.get("marker") {
        None => 0,
        Some(m) if m.trim().is_empty() => return Err(Fault::invalid("Missing host in marker.")),
        Some(m) => all.iter().position(|c| c.hostname == m).ok_or_else(|| not_found(m))? + 1,
    };
    let page: Vec<&Conductor> = all.iter().skip(skip).take(listing.limit as usize).collect();
    let mut body = JsonMap::new();
    body.insert("conductors".into(), page.iter().map(|c| render(c, &alive, listing.shown.set, &req.base)).collect());
    if let Some(next) = listing.next(req, "conductors", &[], page.len(), page.last().map(|c| &c.hostname)) {
        body.insert("next".into(), next.into());
    }
    Reply::ok(&body)
}

/// `GET /v1/conductors/{hostname}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let c = api.store.conductor_get(req.param(0)).await?;
    let fields = fields_of_one(req)?;
    Reply::ok(&render(&c, &alive(api).await?, fields, &req.base))
}
