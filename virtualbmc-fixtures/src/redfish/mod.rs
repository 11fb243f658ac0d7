//! A Redfish service.
