//! One module per resource: parse, call, render.

pub(crate) mod allocation;
pub(crate) mod conductor;
pub(crate) mod driver;
pub(crate) mod firmware;
pub(crate) mod history;
pub(crate) mod interfaces;
pub(crate) mod masking;
pub(crate) mod network_data;
pub(crate) mod node;
pub(crate) mod node_devices;
pub(crate) mod node_doc;
pub(crate) mod node_rules;
pub(crate) mod node_states;
pub(crate) mod node_sub;
pub(crate) mod node_view;
pub(crate) mod node_write;
pub(crate) mod placeholder;
pub(crate) mod port;
pub(crate) mod port_write;
pub(crate) mod provision;
pub(crate) mod raid;
pub(crate) mod root;
pub(crate) mod steps;
pub(crate) mod vendor;
pub(crate) mod volume;
