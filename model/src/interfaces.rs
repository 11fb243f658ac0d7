//! Which implementation a node has of each interface.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::interface::{HARDWARE_TYPES, InterfaceKind};

/// The implementation chosen for each interface; absent only while a node is being created.
///
/// On the wire and at rest a map from kinds to names. Nearly every name is one that a hardware type knows: those are not copied, so that a
/// thousand nodes do not cost thirteen thousand texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces([Option<Cow<'static, str>>; InterfaceKind::ALL.len()]);

/// A name, without a copy of it if a hardware type knows it.
fn text_of(kind: InterfaceKind, name: &str) -> Cow<'static, str> {
    let known = HARDWARE_TYPES.iter().find_map(|h| h.supported(kind).iter().find(|s| **s == name).copied());
    known.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed)
}

impl Interfaces {
    /// The implementation of `kind`; empty when none is set.
    #[must_use]
    pub fn get(&self, kind: InterfaceKind) -> &str {
        self.chosen(kind).unwrap_or_default()
    }
    /// The implementation of `kind`, when one is set.
    #[must_use]
    pub fn chosen(&self, kind: InterfaceKind) -> Option<&str> {
        self.0[kind as usize].as_deref()
    }
    /// Chooses an implementation.
    pub fn set(&mut self, kind: InterfaceKind, name: impl AsRef<str>) {
        self.0[kind as usize] = Some(text_of(kind, name.as_ref()));
    }
    /// What is set, in the order of the kinds.
    pub fn iter(&self) -> impl Iterator<Item = (InterfaceKind, &str)> {
        InterfaceKind::ALL.iter().filter_map(|k| Some((*k, self.chosen(*k)?)))
    }
}

impl Serialize for Interfaces {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Interfaces {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Interfaces;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from interfaces to the names of their implementations")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Interfaces, A::Error> {
        let mut out = Interfaces::default();
        while let Some(kind) = map.next_key::<InterfaceKind>()? {
            out.0[kind as usize] = Some(map.next_value_seed(Name(kind))?);
        }
        Ok(out)
    }
}

/// Reads the name of an implementation of this kind where it stands.
struct Name(InterfaceKind);

impl<'de> de::DeserializeSeed<'de> for Name {
    type Value = Cow<'static, str>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl de::Visitor<'_> for Name {
    type Value = Cow<'static, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of an implementation of {}", self.0.as_str())
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(text_of(self.0, name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_and_unknown_names_come_back_as_they_were_written() {
        let written = json!({"bios": "no-bios", "boot": "a \"new\" one", "vendor": "ipmitool"});
        let read: Interfaces = serde_json::from_value(written.clone()).expect("read");
        assert_eq!(serde_json::from_str::<Interfaces>(&written.to_string()).expect("read"), read);
        assert_eq!((read.get(InterfaceKind::Boot), read.get(InterfaceKind::Power)), ("a \"new\" one", ""));
        assert_eq!(serde_json::to_value(&read).expect("written"), written);
        assert!(matches!(read.0[InterfaceKind::Vendor as usize], Some(Cow::Borrowed("ipmitool"))), "not copied");
        assert!(serde_json::from_value::<Interfaces>(json!({"engine": "x"})).is_err());
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let places: Vec<usize> = InterfaceKind::ALL.iter().map(|k| *k as usize).collect();
        assert_eq!(places, (0..InterfaceKind::ALL.len()).collect::<Vec<_>>());
    }
}
