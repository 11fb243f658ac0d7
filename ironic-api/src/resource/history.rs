//! `history` of a node (`api.md` section 3.7).

use bessemer_db::{HistoryPage, HistorySort};
use bessemer_model::{
    Json, JsonMap,
    fault::Fault,
    history::HistoryEntry,
    ids::{HistoryId, NodeId},
    state::ProvisionState,
};
use serde_json::json;

use crate::{
    links::next_page,
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req},
    version::{FieldSet, FieldTable, fields::HistoryField},
};

use HistoryField as F;

const SHORT: &[HistoryField] = &[F::Uuid, F::CreatedAt, F::Severity, F::Event, F::Links];
/// Longer events are cut in summaries.
const MAX_EVENT: usize = 255;

fn entry(e: &HistoryEntry, node: NodeId, fields: FieldSet<HistoryField>, cut: bool, base: &str) -> Json {
    let mut m = JsonMap::new();
    for f in fields.iter() {
        let value = match f {
            F::Uuid => json!(e.id),
            F::CreatedAt => json!(e.created_at.to_wire()),
            F::Severity => json!(e.severity),
            F::Event if cut && e.event.chars().count() > MAX_EVENT => {
                json!(format!("{}...", e.event.chars().take(MAX_EVENT - 4).collect::<String>()))
            }
            F::Event => json!(e.event),
            F::EventType => json!(e.event_type),
            F::Conductor => json!(e.conductor),
            F::User => json!(e.user),
            F::Project => json!(e.project),
            F::State => json!(e.state.map(ProvisionState::as_str)),
            F::TargetProvisionState => json!(e.target_provision_state.map(ProvisionState::as_str)),
            // Whole seconds on the wire.
            F::DurationSeconds => json!(e.duration_seconds.map(|d| d.max(0.0) as u64)),
            F::Links => json!([{ "href": format!("{base}/v1/nodes/{node}/history/{}", e.id), "rel": "self" }]),
        };
        m.insert(f.name().to_owned(), value);
    }
    Json::Object(m)
}

fn sort_column(f: HistoryField) -> Result<HistorySort, Fault> {
    Ok(match f {
        F::CreatedAt => HistorySort::CreatedAt,
        F::Uuid => HistorySort::Uuid,
        F::Severity => HistorySort::Severity,
        F::Event => HistorySort::Event,
        F::EventType => HistorySort::EventType,
        F::Conductor => HistorySort::Conductor,
        F::User => HistorySort::User,
        F::Project => HistorySort::Project,
        F::State => HistorySort::State,
        F::TargetProvisionState => HistorySort::TargetProvisionState,
        F::DurationSeconds => HistorySort::DurationSeconds,
        F::Links => return Err(Fault::invalid("History cannot be sorted by this field.")),
    })
}

/// `GET history`.
pub(crate) async fn list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let q = &req.query;
    q.only(&["detail", "marker", "limit", "sort_key", "sort_dir"])?;
    let detail = q.bool("detail")?.unwrap_or(false);
    let limit = q.limit(api.config.max_limit)?;
    let sort_key = q.get("sort_key").filter(|k| !k.is_empty()).unwrap_or("created_at");
    let desc = q.descending()?;
    let sort = req.version.sort_field::<HistoryField>(sort_key)?.map_or(Ok(HistorySort::CreatedAt), sort_column)?;
    let marker = q.uuid("marker")?.map(HistoryId);
    let node = api.node_of_path(req).await?;
    let entries = api.store.history_list(node.id, &HistoryPage { limit, marker, sort, desc }).await?;

    let fields = if detail { req.version.visible() } else { req.version.visible_of(SHORT) };
    let rows: Vec<Json> = entries.iter().map(|e| entry(e, node.id, fields, !detail, &req.base)).collect();
    let mut body = JsonMap::new();
    if let Some(last) = entries.last().filter(|_| entries.len() == limit as usize) {
        let mut args = vec![
            ("marker", q.get("marker").unwrap_or("None").to_owned()),
            ("sort_key", sort_key.to_owned()),
            ("sort_dir", if desc { "desc" } else { "asc" }.to_owned()),
        ];
        if detail {
            args.push(("detail", "True".to_owned()));
        } else {
            args.push(("fields", "uuid,created_at,severity,event".to_owned()));
        }
        let next = next_page(&req.base, &format!("nodes/{}/history", req.param(0)), &args, limit, last.id);
        body.insert("next".into(), next.into());
    }
    body.insert("history".into(), Json::Array(rows));
    Reply::ok(&body)
}

/// `GET history/{uuid}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let id = parse_uuid(req.param(1)).ok_or_else(|| Fault::invalid("Expected the UUID of a history entry."))?;
    let node = api.node_of_path(req).await?;
    let e = api.store.history_get(node.id, HistoryId(id)).await?;
    Reply::ok(&entry(&e, node.id, req.version.visible(), false, &req.base))
}
