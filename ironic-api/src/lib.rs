//! ironic-api
