//! `/` and `/v1` (`api.md` section 2).

use bessemer_model::{Json, JsonMap, fault::Fault};
use serde_json::json;

use crate::{
    reply::Reply,
    request::Req,
    version::{Version, table::MAX, table::MIN},
};

const _: () = assert!(MIN == 1 && MAX == 115);

fn version_record(base: &str) -> Json {
    json!({
        "id": "v1",
        "links": [{ "href": format!("{base}/v1/"), "rel": "self" }],
        "status": "CURRENT",
        "min_version": Version::MIN.to_string(),
        "version": Version::MAX.to_string(),
    })
}

/// `GET /`. The name is what clients of this API look for.
pub(crate) fn service(base: &str) -> Result<Reply, Fault> {
    let v1 = version_record(base);
    Reply::ok(&json!({
        "name": "OpenStack Ironic API",
        "description": "Bessemer: bare-metal provisioning with the Ironic v1 API.",
        "default_version": v1,
        "versions": [v1],
    }))
}

/// `GET /v1`.
pub(crate) fn version(req: &Req) -> Result<Reply, Fault> {
    let base = &req.base;
    let mut m = JsonMap::new();
    m.insert("id".into(), "v1".into());
    m.insert(
        "links".into(),
        json!([
            { "href": format!("{base}/v1/"), "rel": "self" },
            { "href": "https://docs.openstack.org//ironic/latest/contributor//webapi.html", "rel": "describedby", "type": "text/html" },
        ]),
    );
    m.insert("media_types".into(), json!({ "base": "application/json", "type": "application/vnd.openstack.ironic.v1+json" }));
    m.insert("version".into(), version_record(base));
    for name in req.version.root_links() {
        let pair = json!([
            { "href": format!("{base}/v1/{name}/"), "rel": "self" },
            { "href": format!("{base}/{name}/"), "rel": "bookmark" },
        ]);
        m.insert(name.to_owned(), pair);
    }
    Reply::ok(&m)
}
