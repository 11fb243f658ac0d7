//! A port: a network card of a node.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    JsonMap,
    clock::Timestamp,
    ids::{NodeId, PortId, PortgroupId},
};

/// An Ethernet address, shown in lower case with colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six two-digit hexadecimal octets separated by colons or dashes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address like 52:54:00:aa:00:01 but received {0}")]
pub struct InvalidMac(pub String);

impl FromStr for Mac {
    type Err = InvalidMac;
    fn from_str(s: &str) -> Result<Self, InvalidMac> {
        let bad = || InvalidMac(s.chars().take(64).collect());
        let sep = if s.contains('-') { '-' } else { ':' };
        let mut out = [0u8; 6];
        let mut parts = s.split(sep);
        for o in &mut out {
            let p = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(bad)?;
            *o = u8::from_str_radix(p, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(out)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A port as stored (`api.md` section 4).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 4, one to one")]
pub struct Port {
    pub id: PortId,
    pub seq: i64,
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
    pub node: NodeId,
    /// Normalised, unique. Kept as text: InfiniBand addresses are longer than Ethernet's.
    pub address: String,
    pub name: Option<String>,
    pub extra: JsonMap,
    pub internal_info: JsonMap,
    pub local_link_connection: JsonMap,
    pub pxe_enabled: bool,
    pub portgroup: Option<PortgroupId>,
    pub physical_network: Option<String>,
    pub is_smartnic: Option<bool>,
    pub description: Option<String>,
    pub vendor: Option<String>,
    pub category: Option<String>,
    pub available_for_dynamic_portgroup: bool,
}

/// Where `internal_info` of a port or a port group keeps the VIF of the tenant (`nova-calls.md`).
pub const VIF_KEY: &str = "tenant_vif_port_id";

/// The VIF in an `internal_info`; an empty one is none.
pub(crate) fn vif(internal_info: &JsonMap) -> Option<&str> {
    internal_info.get(VIF_KEY).and_then(crate::Json::as_str).filter(|v| !v.is_empty())
}

impl Port {
    /// The VIF of the tenant that is attached to it.
    #[must_use]
    pub fn vif(&self) -> Option<&str> {
        vif(&self.internal_info)
    }

    /// A port without an address and with every other attribute at its default. Times, `seq` and `revision` are the store's to set.
    #[must_use]
    pub fn blank(id: PortId, node: NodeId) -> Self {
        Self {
            id,
            seq: 0,
            revision: 0,
            created_at: Timestamp(0),
            updated_at: None,
            node,
            address: String::new(),
            name: None,
            extra: JsonMap::new(),
            internal_info: JsonMap::new(),
            local_link_connection: JsonMap::new(),
            pxe_enabled: true,
            portgroup: None,
            physical_network: None,
            is_smartnic: Some(false),
            description: None,
            vendor: None,
            category: None,
            available_for_dynamic_portgroup: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_normalised_and_rubbish_is_refused() {
        assert_eq!("52-54-00-AA-00-01".parse::<Mac>().map(|m| m.to_string()), Ok("52:54:00:aa:00:01".into()));
        for bad in ["", "52:54:00:aa:00", "52:54:00:aa:00:01:02", "5254.00aa.0001", "g2:54:00:aa:00:01", "+2:54:00:aa:00:01"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
