//! Runbooks and their traits (`api.md` section 12), and their use by `clean` and `service` (section 3.4).

use std::fmt::Display;

use bessemer_db::{DbError, RunbookSort as Sort};
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::RunbookId,
    node::Node,
    runbook::{Runbook, RunbookStep},
};
use bessemer_rpc::{UserStep, Verb};
use serde::ser::SerializeMap;
use serde_json::json;
use uuid::Uuid;

use super::{
    masking::Masked,
    node_doc::Doc,
    record::{self, Filtered, Resource, StepDoc, StepView, Strict, kept_first},
    steps::{self, StepList},
    traits::{ONE_OR_ALL, check_trait, names_one, read_traits},
};
use crate::{
    body::Args,
    links::Links,
    listing::{Look, Show},
    patch::Patch,
    policy::{Policy, STEP_PREFIX, Target, forbidden},
    reply::Reply,
    request::{Api, Req, is_loose_name},
    version::{Behaviour, FieldTable, fields::RunbookField as F},
};

impl Show for Runbook {
    type Field = F;
    const KEY: &'static str = "runbooks";
    fn identity(&self) -> impl Display {
        self.id
    }
    fn field<M: SerializeMap>(&self, f: F, look: Look<'_>, m: &mut M) -> Result<(), M::Error> {
        let k = f.name();
        match f {
            F::Uuid => m.serialize_entry(k, &self.id),
            F::CreatedAt => m.serialize_entry(k, &self.created_at.to_wire()),
            F::UpdatedAt => m.serialize_entry(k, &self.updated_at.map(|t| t.to_wire())),
            F::Name => m.serialize_entry(k, &self.name),
            F::Extra => m.serialize_entry(k, &self.extra),
            F::Public => m.serialize_entry(k, &self.public),
            F::Owner => m.serialize_entry(k, &self.owner),
            F::DisableRamdisk => m.serialize_entry(k, &self.disable_ramdisk),
            F::Description => m.serialize_entry(k, &self.description),
            F::Traits => m.serialize_entry(k, &self.traits),
            F::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("runbooks/{}", self.id) }),
            F::Steps => m.serialize_entry(
                k,
                &self
                    .steps
                    .iter()
                    .map(|s| StepView {
                        interface: s.interface,
                        step: &s.step,
                        args: Masked::new(&s.args),
                        priority: None,
                        order: Some(s.order),
                    })
                    .collect::<Vec<_>>(),
            ),
        }
    }
}

fn step(s: &StepDoc<'_>) -> Result<RunbookStep, Fault> {
    Ok(RunbookStep {
        interface: s.interface()?,
        step: s.name()?.to_owned(),
        args: s.args()?.unwrap_or_default(),
        order: s.number("order")?,
    })
}

/// Refuses steps that the caller may not have run (`step:execute`), so that no runbook passes on what its author may not do.
fn may_have(req: &Req, steps: &[RunbookStep], target: Target<'_>) -> Result<(), Fault> {
    let name = |s: &RunbookStep| format!("{}.{}", s.interface.as_str(), s.step);
    match steps.iter().map(name).find(|s| !req.rights.may_run_step(s, target)) {
        Some(step) => Err(forbidden(&format!("{STEP_PREFIX}{step}"))),
        None => Ok(()),
    }
}

fn read(mut r: Runbook, doc: &JsonMap) -> Result<Runbook, Fault> {
    let d = Doc(doc);
    r.name = d.text("name", 255)?.ok_or_else(|| Fault::missing("\"name\" is a required property."))?;
    if !is_loose_name(&r.name) {
        return Err(Fault::invalid("\"name\" may hold letters, digits and - . _ ~ only."));
    }
    r.description = d.text("description", 255)?;
    r.owner = d.text("owner", 255)?;
    r.public = Strict(doc).flag("public")?;
    r.disable_ramdisk = Strict(doc).flag("disable_ramdisk")?;
    r.extra = d.object("extra")?;
    r.steps = Strict(doc).steps(step)?;
    Ok(r)
}

impl Resource for Runbook {
    const WHAT: &'static str = "Runbook";
    const NAMED: bool = true;
    const SHORT: &'static [F] = &[F::Uuid, F::Name, F::Links];
    const FILTERS: &'static [&'static str] = &["project"];
    fn column(f: F) -> Option<Sort> {
        Some(match f {
            F::Uuid => Sort::Uuid,
            F::Name => Sort::Name,
            F::Description => Sort::Description,
            F::Public => Sort::Public,
            F::Owner => Sort::Owner,
            F::DisableRamdisk => Sort::DisableRamdisk,
            F::CreatedAt => Sort::CreatedAt,
            F::UpdatedAt => Sort::UpdatedAt,
            _ => return None,
        })
    }
    fn filter(req: &Req) -> Result<Filtered<Option<String>>, Fault> {
        let own = req.query.bool("project")?.unwrap_or(false);
        let narrowed = req.narrow.project().map(str::to_owned);
        Ok((narrowed.or_else(|| own.then(|| req.rights.caller.project_id.clone().unwrap_or_default())), vec![]))
    }
    fn blank(id: Uuid) -> Self {
        Self::blank(RunbookId(id))
    }
    fn create(self, body: JsonMap, req: &Req) -> Result<Self, Fault> {
        req.version.check_create::<F>(body.keys().map(String::as_str))?;
        for s in body.get("steps").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_object) {
            StepDoc::of(s).only(&["interface", "step", "args", "order"])?;
        }
        let mut new = read(self, &body)?;
        may_have(req, &new.steps, Target::default())?;
        if !req.version.has(Behaviour::RunbookTraits) {
            check_trait(&new.name)?;
        }
        // A runbook belongs to the project that makes it, unless a caller of the system says otherwise.
        let caller = &req.rights.caller;
        if caller.system_scope.is_some() {
            return Ok(new);
        }
        let project = caller.project_id.clone();
        if new.owner.as_ref().is_some_and(|o| !o.is_empty()) && new.owner != project {
            return Err(Fault::new(FaultKind::Invalid, "A runbook cannot be made for another project than one's own."));
        }
        if project.is_some() && new.public {
            return Err(Fault::new(FaultKind::Invalid, "A project cannot make a public runbook."));
        }
        new.owner = project;
        Ok(new)
    }
    fn document(&self) -> JsonMap {
        let mut m = JsonMap::new();
        let mut put = |k: &str, v: Json| m.insert(k.to_owned(), v);
        put("name", json!(self.name));
        put("description", json!(self.description));
        put("public", json!(self.public));
        put("owner", json!(self.owner));
        put("disable_ramdisk", json!(self.disable_ramdisk));
        put("extra", json!(self.extra));
        put("steps", json!(self.steps));
        m
    }
    fn patched(&self, patch: &Patch, req: &Req) -> Result<Self, Fault> {
        let first = |root: &str| patch.0.iter().find(|o| o.root() == root && o.op != crate::patch::Op::Remove).map(|o| &o.value);
        let public = first("public");
        if first("owner").is_some() && public.map_or(self.public, |v| *v == Json::Bool(true)) {
            return Err(Fault::new(FaultKind::PatchError, "A public runbook has no owner."));
        }
        let mut doc = self.document();
        if public.is_some() {
            doc.insert("owner".into(), Json::Null);
        }
        patch.apply(&mut doc)?;
        let mut new = read(self.clone(), &doc)?;
        if patch.0.iter().any(|o| o.root() == "steps") {
            may_have(req, &new.steps, Target::default())?;
        }
        new.steps = kept_first(&self.steps, new.steps);
        Ok(new)
    }
}

/// `GET traits`.
pub(crate) async fn traits(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let r: Runbook = record::find(api, req, req.param(0)).await?;
    Reply::ok(&json!({ "traits": r.traits }))
}

/// Writes the traits that `change` makes of those that are there.
async fn change(api: &Api, req: &Req, change: impl Fn(&mut Vec<String>)) -> Result<(), Fault> {
    for _ in 0..8 {
        let mut r: Runbook = record::find(api, req, req.param(0)).await?;
        change(&mut r.traits);
        r.traits.sort();
        r.traits.dedup();
        let revision = r.revision;
        match api.store.record_update(r, revision).await {
            Err(DbError::RevisionLost { .. }) => {}
            other => return Ok(other.map(drop)?),
        }
    }
    Err(Fault::new(FaultKind::NodeLocked, "The runbook is being changed by others; repeat the request."))
}

/// `PUT traits`: all of them.
pub(crate) async fn traits_set(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["traits"])?;
    let names = args.get("traits").map(read_traits).transpose()?;
    let _: Runbook = record::find(api, req, req.param(0)).await?;
    let names = names.ok_or_else(|| Fault::new(FaultKind::Invalid, ONE_OR_ALL))?;
    change(api, req, |t| t.clone_from(&names)).await?;
    Ok(Reply::no_content())
}

/// `PUT traits/{trait}`.
pub(crate) async fn trait_add(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let name = req.param(1);
    check_trait(name)?;
    names_one(&req.body)?;
    change(api, req, |t| t.push(name.to_owned())).await?;
    Ok(Reply::no_content().at(format!("{}/v1/runbooks/{}/traits/{name}", req.base, req.param(0))))
}

/// `DELETE traits`.
pub(crate) async fn traits_clear(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    change(api, req, Vec::clear).await?;
    Ok(Reply::no_content())
}

/// `DELETE traits/{trait}`; one that is not there is no error.
pub(crate) async fn trait_remove(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    change(api, req, |t| t.retain(|n| n != req.param(1))).await?;
    Ok(Reply::no_content())
}

/// What a runbook brings to a verb.
pub(crate) struct Prepared {
    pub steps: Vec<UserStep>,
    pub disable_ramdisk: bool,
}

/// The runbook that a verb names, checked against the node; `None` when it names none.
///
/// # Errors
/// `NotAcceptable` before there were runbooks, `NotFound`, and `InvalidParameterValue` when it is not approved for the node, comes with
/// steps, or the verb takes none.
pub(crate) async fn for_verb(api: &Api, req: &Req, node: &Node, verb: Verb, args: &Args) -> Result<Option<Prepared>, Fault> {
    let Some(ident) = args.text("runbook")?.filter(|r| !r.is_empty()) else { return Ok(None) };
    if !req.version.has(Behaviour::Runbooks) {
        return Err(Fault::new(FaultKind::NotAcceptable, "\"runbook\" needs a newer API version."));
    }
    let r: Runbook = record::find(api, req, ident).await?;
    req.rights.need(Policy::RunbookUse, Target::runbook(r.owner.as_deref()))?;
    approved(&r, node, req.version.has(Behaviour::RunbookTraits))?;
    let list = match verb {
        Verb::Clean => StepList::Clean,
        Verb::Service => StepList::Service,
        v => return Err(Fault::invalid(format!("\"runbook\" cannot be given with \"{}\".", v.as_str()))),
    };
    let given = |l: StepList| args.get(l.key()).is_some_and(|v| v.as_array().is_none_or(|a| !a.is_empty()));
    if given(StepList::Clean) || given(StepList::Service) {
        return Err(Fault::invalid("Give either \"runbook\" or steps."));
    }
    if list == StepList::Service && !req.version.has(Behaviour::ServiceWithoutRamdisk) {
        return Err(Fault::new(FaultKind::NotAcceptable, "A runbook for servicing needs a newer API version."));
    }
    let disallowed = match list {
        StepList::Service => &api.config.disallow_service_steps,
        _ => &api.config.disallow_clean_steps,
    };
    // What the operator made or let everybody use is approved.
    if r.owner.is_some() && !r.public {
        may_have(req, &r.steps, Target::node(node))?;
    }
    let steps: Vec<UserStep> = r.steps.into_iter().map(UserStep::from).collect();
    steps.iter().try_for_each(|s| steps::check_allowed(s, disallowed))?;
    Ok(Some(Prepared { steps, disable_ramdisk: r.disable_ramdisk }))
}

/// Whether the node's traits let the runbook run on it.
fn approved(r: &Runbook, node: &Node, by_traits: bool) -> Result<(), Fault> {
    let has = |t: &String| node.traits.contains(t);
    let refuse = |why: &str| Err(Fault::invalid(format!("Runbook {} may not be used on node {}: {why}.", r.id, node.id)));
    match by_traits {
        true if r.traits.is_empty() => refuse("it has no traits; add one that the node has"),
        true if !r.traits.iter().any(has) => refuse("the node has none of its traits"),
        false if !has(&r.name) => refuse("the node has no trait of its name"),
        _ => Ok(()),
    }
}
