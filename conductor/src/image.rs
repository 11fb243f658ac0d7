//! Which image goes onto a machine, checked before anything is touched (`security.md` section 6).

use bessemer_model::{Json, node::Node};
use serde_json::json;

use crate::{core::Core, files};

/// Why an image is refused. Names the key of `instance_info` and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImageProblem(pub String);

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Source {
    /// Set when this daemon serves it itself.
    pub served_path: Option<String>,
    /// Computed here because the user gave no checksum for a local file.
    pub computed_sha256: Option<String>,
}

fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.spec.instance_info.get(key).and_then(Json::as_str).filter(|s| !s.is_empty())
}

/// Checks `instance_info` without looking anywhere (what `validate` and the verb do).
///
/// # Errors
/// [`ImageProblem`].
pub fn check(node: &Node) -> Result<(), ImageProblem> {
    let Some(source) = text(node, "image_source") else {
        return Err(ImageProblem("instance_info misses image_source: set it to the URL of a whole-disk image".into()));
    };
    let http = source.starts_with("http://") || source.starts_with("https://");
    let file = source.starts_with("file://");
    if !http && !file {
        return Err(ImageProblem(format!(
            "instance_info image_source '{source}' is not usable: give an http://, https:// or file:// URL (the image service is not built yet)"
        )));
    }
    if http {
        let algo = text(node, "image_os_hash_algo");
        let value = text(node, "image_os_hash_value");
        let sum = text(node, "image_checksum");
        if algo.is_some() != value.is_some() {
            return Err(ImageProblem("instance_info needs image_os_hash_algo and image_os_hash_value together".into()));
        }
        if sum.is_none() && value.is_none() {
            return Err(ImageProblem(
                "instance_info misses a checksum of the image: set image_os_hash_algo and image_os_hash_value, or image_checksum".into(),
            ));
        }
    }
    if text(node, "image_type") == Some("partition") {
        return Err(ImageProblem(
            "instance_info image_type 'partition' is not built yet: use a whole-disk image; see docs/status.md".into(),
        ));
    }
    if let Some(format) = text(node, "image_disk_format")
        && !["raw", "gpt", "qcow2"].contains(&format)
    {
        return Err(ImageProblem(format!("instance_info image_disk_format '{format}' is not permitted: raw, gpt and qcow2 are")));
    }
    Ok(())
}

/// Finds out who serves the image.
///
/// # Errors
/// [`ImageProblem`].
pub async fn source(core: &Core, node: &Node) -> Result<Source, ImageProblem> {
    check(node)?;
    let url = text(node, "image_source").unwrap_or_default();
    if !url.starts_with("file://") {
        return Ok(Source::default());
    }
    if core.config.boot_url.is_none() {
        return Err(ImageProblem(
            "a file:// image is served by the boot services' HTTP server: set [pxe] http_port and the interface to serve on".into(),
        ));
    }
    let path = files::allowed_image_path(core, url).map_err(|e| ImageProblem(e.0))?;
    let given = text(node, "image_checksum").is_some() || text(node, "image_os_hash_value").is_some();
    let computed = if given { None } else { Some(files::sha256_of(&path).await.map_err(|e| ImageProblem(e.0))?) };
    Ok(Source { served_path: Some(path.display().to_string()), computed_sha256: computed })
}

/// `image_info` as the agent takes it (`agent.md` section 10).
///
/// # Errors
/// [`ImageProblem`].
pub fn info(node: &Node, served: Option<String>, computed_sha256: Option<String>) -> Result<Json, ImageProblem> {
    check(node)?;
    let url = match served {
        Some(u) => u,
        None => text(node, "image_source").unwrap_or_default().to_owned(),
    };
    let source = text(node, "image_source").unwrap_or_default();
    let id = source.rsplit('/').next().unwrap_or(source);
    let mut m = json!({
        "id": id,
        "urls": [url],
        "disk_format": text(node, "image_disk_format"),
        "container_format": text(node, "image_container_format").unwrap_or("bare"),
        "stream_raw_images": true,
        "node_uuid": node.id,
        "image_type": "whole-disk",
    });
    if let (Some(a), Some(v)) = (text(node, "image_os_hash_algo"), text(node, "image_os_hash_value")) {
        m["os_hash_algo"] = json!(a);
        m["os_hash_value"] = json!(v);
    } else if let Some(v) = computed_sha256 {
        m["os_hash_algo"] = json!("sha256");
        m["os_hash_value"] = json!(v);
    }
    if let Some(c) = text(node, "image_checksum") {
        m["checksum"] = json!(c);
    }
    let mut proxies = serde_json::Map::new();
    for (key, scheme) in [("image_http_proxy", "http"), ("image_https_proxy", "https")] {
        if let Some(p) = node.spec.driver_info.get(key).and_then(Json::as_str) {
            proxies.insert(scheme.into(), json!(p));
        }
    }
    if !proxies.is_empty() {
        m["proxies"] = Json::Object(proxies);
    }
    if let Some(p) = node.spec.driver_info.get("image_no_proxy").and_then(Json::as_str) {
        m["no_proxy"] = json!(p);
    }
    Ok(m)
}
