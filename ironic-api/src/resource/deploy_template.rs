//! Deploy templates (`api.md` section 11).

use std::fmt::Display;

use bessemer_db::DeployTemplateSort as Sort;
use bessemer_model::{
    JsonMap,
    deploy_template::{DeployTemplate, TemplateStep},
    fault::Fault,
    ids::DeployTemplateId,
};
use serde::ser::SerializeMap;
use serde_json::json;
use uuid::Uuid;

use super::{
    masking::Masked,
    node_doc::Doc,
    record::{Filtered, Resource, StepDoc, StepView, Strict, kept_first},
    traits::check_trait,
};
use crate::{
    links::Links,
    listing::{Look, Show},
    patch::Patch,
    request::Req,
    version::{FieldTable, fields::DeployTemplateField as F},
};

impl Show for DeployTemplate {
    type Field = F;
    const KEY: &'static str = "deploy_templates";
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
            F::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("deploy_templates/{}", self.id) }),
            F::Steps => m.serialize_entry(
                k,
                &self
                    .steps
                    .iter()
                    .map(|s| StepView {
                        interface: s.interface,
                        step: &s.step,
                        args: Masked::new(&s.args),
                        priority: Some(s.priority),
                        order: None,
                    })
                    .collect::<Vec<_>>(),
            ),
        }
    }
}

fn step(s: &StepDoc<'_>) -> Result<TemplateStep, Fault> {
    let args = s.args()?.ok_or_else(|| Fault::invalid("A step: \"args\" is a required property."))?;
    Ok(TemplateStep { interface: s.interface()?, step: s.name()?.to_owned(), args, priority: s.number("priority")? })
}

fn read(mut t: DeployTemplate, doc: &JsonMap) -> Result<DeployTemplate, Fault> {
    let d = Doc(doc);
    t.name = d.text("name", 255)?.ok_or_else(|| Fault::missing("\"name\" is a required property."))?;
    check_trait(&t.name)?;
    t.extra = d.object("extra")?;
    t.steps = Strict(doc).steps(step)?;
    Ok(t)
}

impl Resource for DeployTemplate {
    const WHAT: &'static str = "Deploy template";
    const NAMED: bool = true;
    const SHORT: &'static [F] = &[F::Uuid, F::Name, F::Links];
    fn column(f: F) -> Option<Sort> {
        Some(match f {
            F::Uuid => Sort::Uuid,
            F::Name => Sort::Name,
            F::CreatedAt => Sort::CreatedAt,
            F::UpdatedAt => Sort::UpdatedAt,
            _ => return None,
        })
    }
    fn filter(_: &Req) -> Result<Filtered<()>, Fault> {
        Ok(((), vec![]))
    }
    fn blank(id: Uuid) -> Self {
        Self::blank(DeployTemplateId(id))
    }
    fn create(self, mut body: JsonMap, req: &Req) -> Result<Self, Fault> {
        // A description is taken, checked and forgotten: that is the contract.
        Doc(&body).text("description", 255)?;
        body.remove("description");
        req.version.check_create::<F>(body.keys().map(String::as_str))?;
        for s in body.get("steps").and_then(serde_json::Value::as_array).into_iter().flatten().filter_map(|s| s.as_object()) {
            StepDoc::of(s).only(&["interface", "step", "args", "priority"])?;
        }
        read(self, &body)
    }
    fn document(&self) -> JsonMap {
        let mut m = JsonMap::new();
        m.insert("name".into(), json!(self.name));
        m.insert("extra".into(), json!(self.extra));
        m.insert("steps".into(), json!(self.steps));
        m
    }
    fn patched(&self, patch: &Patch, _: &Req) -> Result<Self, Fault> {
        let mut doc = self.document();
        patch.apply(&mut doc)?;
        let mut new = read(self.clone(), &doc)?;
        new.steps = kept_first(&self.steps, new.steps);
        Ok(new)
    }
}
