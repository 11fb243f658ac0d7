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
    links::{Links, next_page},
    query::{shown, shown_in_list},
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
    q.only(&["fields", "detail", "limit", "marker", "sort_key", "sort_dir"])?;
    let mut shown = shown_in_list(q, req.version, SHORT)?;
    if let Some(names) = &mut shown.named {
        names.retain(|n| n != "links");
    }
    let limit = q.limit(api.config.max_limit)?;
    let sort_key = q.get("sort_key").filter(|k| !k.is_empty()).unwrap_or("id");
    let desc = q.descending()?;
    let sort = req.version.sort_field::<ConductorField>(sort_key)?;
    let mut all = api.store.conductor_list().await?;
    let alive = alive(api).await?;
    all.sort_by(|a, b| {
        let by_field = match sort {
            Some(F::Hostname) => a.hostname.cmp(&b.hostname),
            Some(F::ConductorGroup) => a.conductor_group.cmp(&b.conductor_group),
            Some(F::CreatedAt) => a.created_at.cmp(&b.created_at),
            Some(F::UpdatedAt) => a.updated_at.cmp(&b.updated_at),
            _ => std::cmp::Ordering::Equal,
        };
        by_field.then(a.seq.cmp(&b.seq))
    });
    if desc {
        all.reverse();
    }
    let skip = match q.get("marker") {
        None => 0,
        Some(m) => all.iter().position(|c| c.hostname == m).ok_or_else(|| not_found(m))? + 1,
    };
    let page: Vec<&Conductor> = all.iter().skip(skip).take(limit as usize).collect();
    let mut body = JsonMap::new();
    body.insert("conductors".into(), page.iter().map(|c| render(c, &alive, shown.set, &req.base)).collect());
    if let Some(last) = page.last().filter(|_| page.len() == limit as usize) {
        let mut args = vec![("sort_key", sort_key.to_owned()), ("sort_dir", if desc { "desc" } else { "asc" }.to_owned())];
        if let Some(d) = shown.detail {
            args.push(("detail", if d { "True" } else { "False" }.to_owned()));
        }
        if let Some(names) = shown.named.as_ref().filter(|n| !n.is_empty()) {
            args.push(("fields", names.join(",")));
        }
        body.insert("next".into(), next_page(&req.base, "conductors", &args, limit, &last.hostname).into());
    }
    Reply::ok(&body)
}

/// `GET /v1/conductors/{hostname}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let fields = shown(&req.query, req.version)?.map_or_else(|| req.version.visible(), |(set, _)| set);
    let c = api.store.conductor_get(req.param(0)).await?;
    Reply::ok(&render(&c, &alive(api).await?, fields, &req.base))
}
