//! Clients of the services beside a bare-metal service. So far: [`keystone`], the identity service.

pub mod keystone;
