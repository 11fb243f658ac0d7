//! Vendor methods of nodes and drivers (`api.md` section 3.1).

use bessemer_model::{Json, JsonMap, fault::Fault};
use bessemer_rpc::devices::{VendorAnswer, VendorCall};

use crate::{
    reply::Reply,
    request::{Api, Req},
};

/// The call that the request stands for: the method in the path or in `?method=`, the arguments in the body.
fn call(req: &Req) -> Result<VendorCall, Fault> {
    let method = match req.params.get(1) {
        Some(m) => {
            req.query.only(&[])?;
            m.clone()
        }
        None => {
            req.query.only(&["method"])?;
            let given = req.query.get("method").filter(|m| !m.is_empty());
            given.ok_or_else(|| Fault::missing("Missing mandatory parameter: \"method\""))?.to_owned()
        }
    };
    let args = if req.body.is_empty() {
        JsonMap::new()
    } else {
        match req.body.json()? {
            Json::Object(m) => m,
            Json::Null => JsonMap::new(),
            _ => return Err(Fault::invalid("The body of a vendor method must be a JSON object.")),
        }
    };
    Ok(VendorCall { method, http_method: req.method.clone(), args })
}

fn reply(answer: VendorAnswer) -> Result<Reply, Fault> {
    match answer {
        VendorAnswer::Accepted => Ok(Reply::accepted()),
        VendorAnswer::Done(value) => Reply::ok(&value),
    }
}

/// `GET vendor_passthru/methods` of a node.
pub(crate) async fn node_methods(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    Reply::ok(&api.conductor.vendor_methods(node.id).await?)
}

/// Any method of `vendor_passthru` of a node.
pub(crate) async fn node_call(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let call = call(req)?;
    let node = api.node_of_path(req).await?;
    reply(api.conductor.vendor_call(&req.cx, node.id, call).await?)
}

/// `GET vendor_passthru/methods` of a driver.
pub(crate) async fn driver_methods(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    Reply::ok(&api.conductor.driver_vendor_methods(req.param(0)).await?)
}

/// Any method of `vendor_passthru` of a driver.
pub(crate) async fn driver_call(api: &Api, req: &Req) -> Result<Reply, Fault> {
    reply(api.conductor.driver_vendor_call(req.param(0), call(req)?).await?)
}
