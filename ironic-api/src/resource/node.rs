//! Reading nodes: lists (`api.md` section 3.2) and one node.

use std::sync::Arc;

use bessemer_db::{Children, NodeFilter, NodePage, NodeSort};
use bessemer_model::{
    fault::Fault,
    interface::InterfaceKind,
    node::{Node, NodeFault},
    state::ProvisionState,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::node_view::NodeView;
use crate::{
