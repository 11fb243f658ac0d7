//! A request on its way to a handler, and what every handler needs.

use std::sync::Arc;

use bessemer_db::{DbError, Store};
use bessemer_model::{
    fault::{Fault, FaultKind},
    ids::NodeId,
    node::Node,
};
use bessemer_rpc::{ConductorApi, RequestCx};

use crate::{
    body::{Args, Body},
    config::ApiConfig,
    policy::{Narrow, Rights},
    query::{Query, parse_uuid},
    ring::Ring,
    version::{Behaviour, Version},
};

/// What handlers work with.
pub(crate) struct Api {
    pub config: ApiConfig,
    pub store: Store,
    pub conductor: Arc<dyn ConductorApi>,
    pub ring: Ring,
}

/// A request.
pub(crate) struct Req {
    /// HTTP method, in capitals.
    pub method: String,
    pub version: Version,
    /// The variable segments of the path, decoded.
    pub params: Vec<String>,
    pub query: Query,
    pub body: Body,
    /// Public base address, no trailing slash.
    pub base: String,
    pub cx: RequestCx,
    /// A `.json` suffix was cut off the path.
    pub suffix_cut: bool,
    /// What the caller may do.
    pub rights: Rights,
    /// What a list is narrowed to.
    pub narrow: Narrow,
}

impl Req {
    /// A variable segment of the path; empty when the route has no such.
    pub fn param(&self, i: usize) -> &str {
        self.params.get(i).map_or("", String::as_str)
    }

    /// The arguments of an action, of which only `names` are known. They stand in the body or, as text, in the query string.
    ///
    /// # Errors
    /// `InvalidParameterValue` for others, and for one that is given in both places.
    pub fn args(&self, names: &[&str]) -> Result<Args, Fault> {
        self.query.only(names)?;
        let mut args = self.body.args()?;
        args.only(names)?;
        for name in self.query.names() {
            let text = self.query.get(name).unwrap_or_default();
            if args.0.insert(name.to_owned(), text.into()).is_some() {
                return Err(Fault::invalid(format!("\"{name}\" was given both in the body and in the query.")));
            }
        }
        Ok(args)
    }
}

impl Api {
    /// The node that the path names, by UUID or, where the microversion has names, by name.
    ///
    /// # Errors
    /// `InvalidParameterValue` for what is neither, `NodeNotFound`.
    pub async fn node(&self, req: &Req, ident: &str) -> Result<Node, Fault> {
        match parse_uuid(ident) {
            Some(u) => Ok(self.store.node_get(NodeId(u)).await?),
            None => {
                if !is_loose_name(ident) {
                    return Err(Fault::invalid(format!(
                        "Expected a UUID or a name but received {}.",
                        ident.chars().take(255).collect::<String>()
                    )));
                }
                if !req.version.has(Behaviour::NodeNames) {
                    return Err(no_such_node(ident));
                }
                match self.store.node_get_by_ident(ident).await {
                    Err(DbError::NotFound { .. }) if req.suffix_cut => Ok(self.store.node_get_by_ident(&format!("{ident}.json")).await?),
                    other => Ok(other?),
                }
            }
        }
    }

    /// The node of the first variable segment.
    pub async fn node_of_path(&self, req: &Req) -> Result<Node, Fault> {
        self.node(req, req.param(0)).await
    }

    /// The id of a node that must be named by UUID: lists below a node know no names.
    pub async fn node_by_uuid_only(&self, ident: &str) -> Result<NodeId, Fault> {
        let id = NodeId(parse_uuid(ident).ok_or_else(|| no_such_node(ident))?);
        Ok(self.store.node_get(id).await?.id)
    }
}

pub(crate) fn no_such_node(ident: &str) -> Fault {
    Fault::new(FaultKind::NodeNotFound, format!("Node {} could not be found.", ident.chars().take(255).collect::<String>()))
}

/// Unreserved characters of RFC 3986, at most 255.
pub(crate) fn is_loose_name(s: &str) -> bool {
    (1..=255).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
}

/// A host name of RFC 1123.
pub(crate) fn is_host_name(s: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !l.starts_with('-') && !l.ends_with('-')
    };
    s.len() <= 255 && s.split('.').all(label)
}
