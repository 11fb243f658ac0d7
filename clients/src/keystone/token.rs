//! What a token says.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use url::Url;

/// A domain by name or by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By name.
    Name(String),
    /// By id.
    Id(String),
}

impl Named {
    /// As requests write it.
    pub(super) fn reference(&self) -> Value {
        match self {
            Self::Name(n) => json!({ "name": n }),
            Self::Id(i) => json!({ "id": i }),
        }
    }
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing but asking for another token.
    None,
    /// The whole system.
    System,
    /// A domain, by id.
    Domain(String),
    /// A project.
    Project {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// The id of its domain.
        domain_id: String,
    },
}

/// A token that Keystone has answered for.
#[derive(Clone, Debug)]
pub struct Token {
    /// Id of the user.
    pub user_id: String,
    /// Name of the user.
    pub user_name: String,
    /// Id of the user's domain.
    pub user_domain_id: String,
    /// Scope.
    pub scope: Scope,
    /// Names of the roles, implied ones included.
    pub roles: Vec<String>,
    /// Whether the project is the administrators' one; true when Keystone does not say.
    pub is_admin_project: bool,
    /// When it ends.
    pub expires_at: SystemTime,
    catalog: Value,
}

fn text(v: &Value, path: &str) -> Option<String> {
    v.pointer(path)?.as_str().map(str::to_owned)
}

impl Token {
    /// Reads the `token` of an answer; `None` when it is none.
    #[must_use]
    pub fn read(t: &Value) -> Option<Self> {
        let scope = if t.pointer("/system/all").and_then(Value::as_bool) == Some(true) {
            Scope::System
        } else if let Some(id) = text(t, "/project/id") {
            let domain_id = text(t, "/project/domain/id").unwrap_or_default();
            Scope::Project { id, name: text(t, "/project/name").unwrap_or_default(), domain_id }
        } else if let Some(id) = text(t, "/domain/id") {
            Scope::Domain(id)
        } else {
            Scope::None
        };
        let roles = t.get("roles").and_then(Value::as_array).into_iter().flatten().filter_map(|r| text(r, "/name")).collect();
        let expires_at = OffsetDateTime::parse(t.get("expires_at")?.as_str()?, &Rfc3339).ok()?;
        Some(Self {
            user_id: text(t, "/user/id")?,
            user_name: text(t, "/user/name").unwrap_or_default(),
            user_domain_id: text(t, "/user/domain/id").unwrap_or_default(),
            scope,
            roles,
            is_admin_project: t.get("is_admin_project").and_then(Value::as_bool).unwrap_or(true),
            expires_at: expires_at.into(),
            catalog: t.get("catalog").cloned().unwrap_or_default(),
        })
    }

    /// Whether it is still good in `margin` from `now`.
    #[must_use]
    pub fn lasts(&self, now: SystemTime, margin: Duration) -> bool {
        self.expires_at > now + margin
    }

    /// Whether it has the role; upper and lower case are alike.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r.eq_ignore_ascii_case(role))
    }

    /// An endpoint of the catalogue.
    #[must_use]
    pub fn endpoint(&self, service: &str, interface: &str, region: Option<&str>) -> Option<Url> {
        let services = self.catalog.as_array()?.iter().filter(|s| s["type"] == service);
        let mut endpoints = services.filter_map(|s| s["endpoints"].as_array()).flatten();
        let fits = |e: &&Value| e["interface"] == interface && region.is_none_or(|r| e["region_id"] == r || e["region"] == r);
        endpoints.find(fits)?["url"].as_str()?.parse().ok()
    }

    /// Forgets the catalogue, which is large and of no use to those who only check tokens.
    #[must_use]
    pub fn without_catalogue(mut self) -> Self {
        self.catalog = Value::Null;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(extra: Value) -> Value {
        let mut t = json!({
            "user": {"id": "u1", "name": "one", "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": "r", "name": "Reader"}],
            "expires_at": "2026-11-22T13:34:31.000000Z",
            "catalog": [{"type": "network", "endpoints": [
                {"interface": "public", "region_id": "A", "url": "http://a:1"},
                {"interface": "internal", "region_id": "B", "url": "http://b:1/"},
            ]}],
        });
        t.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        t
    }

    #[test]
    fn every_scope_is_read() {
        let read = |v| Token::read(&token(v)).expect("a token").scope;
        assert_eq!(read(json!({})), Scope::None);
        assert_eq!(read(json!({"system": {"all": true}})), Scope::System);
        assert_eq!(read(json!({"domain": {"id": "d"}})), Scope::Domain("d".into()));
        let project = json!({"project": {"id": "p", "name": "n", "domain": {"id": "d"}}});
        assert_eq!(read(project), Scope::Project { id: "p".into(), name: "n".into(), domain_id: "d".into() });
    }

    #[test]
    fn a_token_without_user_or_end_is_none() {
        for bad in [json!({"user": null}), json!({"expires_at": null}), json!({"expires_at": "soon"})] {
            assert!(Token::read(&token(bad)).is_none());
        }
    }

    #[test]
    fn endpoints_are_found_by_type_interface_and_region() {
        let t = Token::read(&token(json!({}))).expect("a token");
        assert_eq!(t.endpoint("network", "public", None).expect("found").as_str(), "http://a:1/");
        assert_eq!(t.endpoint("network", "internal", Some("B")).expect("found").as_str(), "http://b:1/");
        assert!(t.endpoint("network", "internal", Some("A")).is_none());
        assert!(t.without_catalogue().endpoint("network", "public", None).is_none());
    }
}
