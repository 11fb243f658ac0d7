//! Consoles, indicators and vendor methods.

use async_trait::async_trait;
use bessemer_model::{Json, JsonMap, node::Node};
use serde::{Deserialize, Serialize};

use super::{DriverCx, DriverError, Property, Result};

/// State of a lamp, as named on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "named as on the wire")]
pub enum IndicatorState {
    Off,
    On,
    Blinking,
    Unknown,
}

impl IndicatorState {
    /// Every state.
    pub const ALL: &'static [Self] = &[Self::Off, Self::On, Self::Blinking, Self::Unknown];
    /// Name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Blinking => "blinking",
            Self::Unknown => "unknown",
        }
    }
    /// The state with this name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.as_str() == s)
    }
}

/// A lamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indicator {
    /// `chassis`, `system`, `disk`, `power` or `nic`.
    pub component: &'static str,
    /// Its name within the component.
    pub name: String,
    /// It cannot be set.
    pub readonly: bool,
    /// States that it can have.
    pub states: Vec<IndicatorState>,
}

/// A console (`drivers.md` section 2).
#[async_trait]
pub trait Console: Send + Sync {
    /// Keys that it reads.
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    /// Checks the node's configuration.
    ///
    /// # Errors
    /// Names the key and the remedy.
    fn validate(&self, node: &Node) -> Result<()>;
    /// Starts it; no error when it runs.
    ///
    /// # Errors
    /// What keeps it from starting.
    async fn start(&self, cx: &DriverCx<'_>) -> Result<()>;
    /// Stops it; no error when it does not run.
    ///
    /// # Errors
    /// What keeps it from stopping.
    async fn stop(&self, cx: &DriverCx<'_>) -> Result<()>;
    /// Where it can be reached, as clients are told: `{"type", "url"}`.
    ///
    /// # Errors
    /// As above.
    async fn info(&self, cx: &DriverCx<'_>) -> Result<Json>;
}

/// A vendor method that an implementation offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodDecl {
    /// Its name.
    pub name: &'static str,
    /// HTTP methods that it takes.
    pub http: &'static [&'static str],
    /// It is written down with its arguments and answered before it is carried out. A method that takes a secret must not be.
    pub asynchronous: bool,
    /// Nothing else may happen to the node meanwhile.
    pub exclusive: bool,
    /// What it does.
    pub text: &'static str,
    /// Arguments: name, required.
    pub args: &'static [(&'static str, bool)],
    /// Other arguments mean nothing; else they are refused.
    pub open: bool,
}

impl MethodDecl {
    /// A method by POST that is carried out later and alone.
    #[must_use]
    pub const fn post(name: &'static str, text: &'static str, args: &'static [(&'static str, bool)]) -> Self {
        Self { name, http: &["POST"], asynchronous: true, exclusive: true, text, args, open: false }
    }

    /// Checks arguments against the declaration. An argument that is needed must not be empty, null or false either.
    ///
    /// # Errors
    /// `Missing` or `Invalid`, naming the argument.
    pub fn check(&self, args: &JsonMap) -> Result<()> {
        for (name, _) in self.args.iter().filter(|(_, required)| *required) {
            let given = match args.get(*name) {
                None | Some(Json::Null | Json::Bool(false)) => false,
                Some(Json::String(s)) => !s.is_empty(),
                Some(Json::Array(a)) => !a.is_empty(),
                Some(Json::Object(o)) => !o.is_empty(),
                Some(_) => true,
            };
            if !given {
                return Err(DriverError::Missing(format!("Parameter '{name}' not passed to method '{}'.", self.name)));
            }
        }
        if self.open {
            return Ok(());
        }
        match args.keys().find(|k| !self.args.iter().any(|(name, _)| name == k)) {
            Some(k) => Err(DriverError::Invalid(format!("Method '{}' takes no parameter '{k}'.", self.name))),
            None => Ok(()),
        }
    }
}

/// Vendor methods (`drivers.md` section 2).
#[async_trait]
pub trait Vendor: Send + Sync {
    /// Checks the node's configuration.
    ///
    /// # Errors
    /// Names the key and the remedy.
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }
    /// Methods of a node.
    fn methods(&self) -> &'static [MethodDecl];
    /// Checks the values of arguments that the declaration cannot tell about.
    ///
    /// # Errors
    /// `Invalid`, naming the argument and the remedy.
    fn check(&self, _method: &MethodDecl, _args: &JsonMap) -> Result<()> {
        Ok(())
    }
    /// Calls one of them; arguments were checked.
    ///
    /// # Errors
    /// What the hardware says.
    async fn call(&self, cx: &DriverCx<'_>, method: &MethodDecl, args: &JsonMap) -> Result<Json>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_that_are_missing_empty_or_unknown_are_named() {
        let m = MethodDecl::post("m", "", &[("bar", true), ("more", false)]);
        let check = |v: Json| m.check(v.as_object().expect("an object"));
        assert!(check(json!({"bar": "x", "more": null})).is_ok());
        for missing in [json!({}), json!({"bar": ""}), json!({"bar": null}), json!({"more": 1})] {
            assert!(matches!(check(missing.clone()), Err(DriverError::Missing(t)) if t.contains("'bar'")), "{missing}");
        }
        assert!(matches!(check(json!({"bar": "x", "other": 1})), Err(DriverError::Invalid(t)) if t.contains("'other'")));
    }
}
