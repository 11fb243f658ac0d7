//! BIOS settings and firmware components of a node (`api.md` section 3.7), as the conductor last read them.

use bessemer_model::{
    Json, JsonMap,
    clock::Timestamp,
    fault::Fault,
    firmware::{StoredBiosSetting, StoredFirmware},
};
use serde_json::json;

use crate::{
    links::Links,
    query::shown_in_list,
    reply::Reply,
    request::{Api, Req, is_loose_name},
    version::{
        Behaviour, FieldSet, FieldTable,
        fields::{BiosField, FirmwareField},
    },
};

/// Fields that every row shows, whatever was asked for.
const ALWAYS_BIOS: &[BiosField] = &[BiosField::CreatedAt, BiosField::UpdatedAt, BiosField::Links];
const ALWAYS_FIRMWARE: &[FirmwareField] = &[FirmwareField::CreatedAt, FirmwareField::UpdatedAt];

fn bios_row(s: &StoredBiosSetting, fields: FieldSet<BiosField>, base: &str, node: &str) -> Result<Json, Fault> {
    use BiosField as F;
    let b = &s.setting;
    let mut m = JsonMap::new();
    for f in fields.iter() {
        let value = match f {
            F::Name => json!(b.name),
            F::Value => json!(b.value),
            F::CreatedAt => json!(s.created_at.to_wire()),
            F::UpdatedAt => json!(s.updated_at.map(Timestamp::to_wire)),
            F::AttributeType => json!(b.attribute_type),
            F::AllowableValues => json!(b.allowable_values),
            F::LowerBound => json!(b.lower_bound),
            F::UpperBound => json!(b.upper_bound),
            F::MinLength => json!(b.min_length),
            F::MaxLength => json!(b.max_length),
            F::ReadOnly => json!(b.read_only),
            F::ResetRequired => json!(b.reset_required),
            F::Unique => json!(b.unique),
            F::Links => {
                let path = format_args!("nodes/{node}/bios/{}", b.name);
                serde_json::to_value(Links { base, path }).map_err(|e| Fault::internal(e.to_string()))?
            }
        };
        m.insert(f.name().to_owned(), value);
    }
    Ok(Json::Object(m))
}

/// `GET bios`.
pub(crate) async fn bios_list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let fields = if req.version.has(Behaviour::BiosQuery) {
        req.query.only(&["detail", "fields"])?;
        let asked = req.query.list("fields").is_some();
        if asked && req.query.bool("detail")? == Some(true) {
            return Err(Fault::invalid("A subset of fields cannot be fetched with \"detail\"."));
        }
        match req.query.list("fields") {
            Some(names) => selected(req, names, &["links", "created_at", "updated_at", "node_uuid"])?,
            None => shown_in_list(&req.query, req.version, &[BiosField::Name, BiosField::Value])?.set,
        }
    } else {
        req.query.only(&[])?;
        req.version.visible_of(&[BiosField::Name, BiosField::Value])
    };
    let fields = ALWAYS_BIOS.iter().fold(fields, |s, f| s.with(*f));
    let node = api.node_of_path(req).await?;
    let all = api.store.bios_list(node.id).await?;
    let rows: Vec<Json> = all.iter().map(|s| bios_row(s, fields, &req.base, req.param(0))).collect::<Result<_, _>>()?;
    Reply::ok(&json!({ "bios": rows }))
}

/// Fields asked for by name; those in `always` may be named and come anyway. A field of a later version is as unknown as any other.
fn selected<F: FieldTable>(req: &Req, mut names: Vec<String>, always: &[&str]) -> Result<FieldSet<F>, Fault> {
    names.retain(|n| !always.contains(&n.as_str()));
    req.version.selected(&names).map_err(|f| Fault::invalid(f.detail))
}

/// `GET bios/{setting}`.
pub(crate) async fn bios_show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let name = req.param(1);
    if !is_loose_name(name) {
        return Err(Fault::invalid("The name of a BIOS setting holds letters, digits and - . _ ~ only."));
    }
    let node = api.node_of_path(req).await?;
    let setting = api.store.bios_get(node.id, name).await?;
    let row = bios_row(&setting, req.version.visible(), &req.base, &node.id.to_string())?;
    let mut m = JsonMap::new();
    m.insert(name.to_owned(), row);
    Reply::ok(&m)
}

fn firmware_row(s: &StoredFirmware, fields: FieldSet<FirmwareField>) -> Json {
    use FirmwareField as F;
    let mut m = JsonMap::new();
    for f in fields.iter() {
        let value = match f {
            F::Component => json!(s.component),
            F::InitialVersion => json!(s.initial_version),
            F::CurrentVersion => json!(s.current_version),
            F::LastVersionFlashed => json!(s.last_version_flashed),
            F::Vendor => json!(s.vendor),
            F::Model => json!(s.model),
            F::SerialNumber => json!(s.serial_number),
            F::CreatedAt => json!(s.created_at.to_wire()),
            F::UpdatedAt => json!(s.updated_at.map(Timestamp::to_wire)),
        };
        m.insert(f.name().to_owned(), value);
    }
    Json::Object(m)
}

/// `GET firmware`. History of Ironic: this list alone knows no `detail`.
pub(crate) async fn firmware_list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let fields = match req.query.list("fields") {
        Some(names) => selected(req, names, &["created_at", "updated_at"])?,
        None => req.version.visible(),
    };
    let fields = ALWAYS_FIRMWARE.iter().fold(fields, |s, f| s.with(*f));
    let node = api.node_of_path(req).await?;
    let rows: Vec<Json> = api.store.firmware_list(node.id).await?.iter().map(|s| firmware_row(s, fields)).collect();
    Reply::ok(&json!({ "firmware": rows }))
}
