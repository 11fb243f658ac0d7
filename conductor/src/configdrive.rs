//! Config drives: a URL or ready-made drive is passed on, an object is built into an ISO 9660 image (`agent.md` section 11).

use bessemer_model::{Json, node::Node};

/// What is stored in `instance_info/configdrive` for what the user gave.
///
/// # Errors
/// A text for the user that names the field.
pub fn stored_form(node: &Node, given: &Json) -> Result<String, String> {
    match given {
        Json::String(s) => Ok(s.clone()),
        Json::Object(parts) => {
            let mut meta = parts.get("meta_data").and_then(Json::as_object).cloned().unwrap_or_default();
            meta.entry("uuid").or_insert_with(|| Json::String(node.spec.instance_uuid.unwrap_or(node.id.0).to_string()));
            if let Some(name) = &node.spec.name {
                meta.entry("name").or_insert_with(|| Json::String(name.clone()));
            }
            let user = match parts.get("user_data") {
                None | Some(Json::Null) => None,
                Some(Json::String(s)) => Some(s.clone().into_bytes()),
                Some(other) => Some(other.to_string().into_bytes()),
            };
            let network = parts.get("network_data").filter(|v| !v.is_null()).cloned();
            let vendor = parts.get("vendor_data").filter(|v| !v.is_null()).cloned();
            bessemer_media::config_drive::config_drive(&Json::Object(meta), user.as_deref(), network.as_ref(), vendor.as_ref())
                .and_then(|image| bessemer_media::config_drive::encode(&image))
                .map_err(|e| format!("configdrive: {e}"))
        }
        _ => Err("configdrive must be text (a URL or base64) or an object".into()),
    }
}
