//! The columns of `flows`. `doc` holds what only the runner reads; `wake_at` and `aborting` are columns of their own because others
//! write them while it runs.

use bessemer_model::{
    Json,
    clock::Timestamp,
    flow::{Flow, FlowKind, Lane, Phase},
    ids::{FlowId, NodeId},
    state::ProvisionState,
    step::Step,
};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        Arg, Conn, Sql,
        row::{from_json, to_json},
        sql::{args, statements},
    },
    error::{DbError, Result},
};

#[derive(Serialize)]
struct DocRef<'a> {
    steps: &'a [Step],
    at: usize,
    phase: &'a Phase,
    attempt: u32,
    target: Option<ProvisionState>,
    deadline: Option<Timestamp>,
    note: &'a Json,
}

#[derive(Deserialize)]
struct Doc {
    steps: Vec<Step>,
    at: usize,
    phase: Phase,
    attempt: u32,
    target: Option<ProvisionState>,
    deadline: Option<Timestamp>,
    note: Json,
}

pub(crate) fn doc_of(f: &Flow) -> Result<String> {
    let doc =
        DocRef { steps: &f.steps, at: f.at, phase: &f.phase, attempt: f.attempt, target: f.target, deadline: f.deadline, note: &f.note };
    to_json("flow", &doc)
}

#[allow(clippy::too_many_arguments, reason = "one argument per column")]
pub(crate) fn flow_from(
    id: FlowId,
    node: NodeId,
    kind: FlowKind,
    aborting: bool,
    wake_at: Option<Timestamp>,
    created_at: Timestamp,
    doc: &str,
    request: Option<&str>,
) -> Result<Flow> {
    let Doc { steps, at, phase, attempt, target, deadline, note } = from_json("flow", doc)?;
    let request = request.map(|r| from_json("flow request", r)).transpose()?.unwrap_or(Json::Null);
    Ok(Flow { id, node, kind, steps, at, phase, attempt, target, deadline, wake_at, aborting, request, note, created_at })
}

statements! {
    INSERT = Sql::same(
        "INSERT INTO flows (node, lane, id, kind, aborting, wake_at, created_at, doc, request) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (node, lane) DO NOTHING",
    );
    // A wake-up or an abort that came since the runner read the flow (the counter moved) is never lost: the earlier time stays.
    PROGRESS = Sql::same(
        "UPDATE flows SET doc = $4, aborting = (aborting OR $5), wake_at = CASE \
         WHEN wakes <> $7 AND wake_at IS NOT NULL AND (CAST($6 AS BIGINT) IS NULL OR wake_at < $6) THEN wake_at ELSE $6 END \
         WHERE node = $1 AND lane = $2 AND id = $3 RETURNING wakes",
    );
    DELETE = Sql::same("DELETE FROM flows WHERE node = $1 AND lane = $2");
    OF_LANE = Sql::same("SELECT kind, created_at FROM flows WHERE node = $1 AND lane = $2");
}

/// Stores a new flow; false when the lane is taken.
pub(crate) async fn insert(c: &mut Conn, f: &Flow) -> Result<bool> {
    let a = args![
        f.node,
        f.kind.lane().as_str(),
        f.id,
        f.kind.as_str(),
        f.aborting,
        f.wake_at,
        f.created_at,
        doc_of(f)?,
        to_json("flow request", &f.request)?,
    ];
    Ok(c.execute(INSERT, a).await? == 1)
}

/// Stores the progress of a flow that was read at counter `seen`; gives whether it was woken since.
pub(crate) async fn progress(c: &mut Conn, f: &Flow, seen: i64) -> Result<bool> {
    let a: Vec<Arg> = args![f.node, f.kind.lane().as_str(), f.id, doc_of(f)?, f.aborting, f.wake_at, seen];
    match c.row(PROGRESS, a).await? {
        Some(r) => Ok(r.cols().int()? != seen),
        None => Err(DbError::StateChanged { node: f.node.to_string(), state: None }),
    }
}

pub(crate) async fn delete(c: &mut Conn, node: NodeId, lane: Lane) -> Result<()> {
    c.execute(DELETE, args![node, lane.as_str()]).await.map(drop)
}

/// [`DbError::FlowExists`] for a flow that found its lane taken.
pub(crate) async fn busy(c: &mut Conn, f: &Flow) -> Result<DbError> {
    let with = match c.row(OF_LANE, args![f.node, f.kind.lane().as_str()]).await? {
        Some(r) => {
            let cols = &mut r.cols();
            Some((cols.named("flow kind", FlowKind::parse)?, cols.time()?))
        }
        None => None,
    };
    Ok(DbError::FlowExists { node: f.node.to_string(), with })
}
