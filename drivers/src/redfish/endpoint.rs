//! Where a Redfish service is and how to prove who we are: the `redfish_*` keys of `driver_info`.
//!
//! Parsing only. Unknown keys are left to others; a wrong value is refused with the name of its key.

use bessemer_model::secret::Secret;
use serde_json::{Map, Value};
use url::Url;

use super::error::RedfishError;

/// How the identity of the BMC is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Against the certificates of the operating system.
    System,
    /// Against the certificates in this file, or in the files of this directory. A certificate that is itself in the
    /// file is accepted as it is (self-signed certificates of BMCs seldom name the right host).
    Ca(String),
    /// Not at all.
    Off,
}

/// `redfish_auth_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthType {
    /// Session, and HTTP basic where the BMC has no session service.
    Auto,
    /// Session only.
    Session,
    /// HTTP basic only.
    Basic,
    /// No credentials are sent (`none`, or no user name given).
    None,
}

/// Lowest TLS version accepted (`redfish_tls_minimum_version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MinTls {
    /// TLS 1.2 (also what `1.1` gives: nothing older is spoken).
    V12,
    /// TLS 1.3.
    V13,
}

/// One Redfish service with the credentials for it and the system that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedfishEndpoint {
    /// Scheme, host, port and root prefix (`/` when there is none).
    pub address: Url,
    /// Path of the ComputerSystem; without it the service's only system is taken.
    pub system: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret<String>>,
    /// Certificate check; `None` leaves it to the configured default.
    pub verify: Option<Verify>,
    /// Way to authenticate.
    pub auth: AuthType,
    /// Lowest TLS version.
    pub min_tls: MinTls,
}

impl RedfishEndpoint {
    /// Reads the `redfish_*` keys of `driver_info`. `default_auth` stands in where `redfish_auth_type` is absent.
    pub fn parse(driver_info: &Map<String, Value>, default_auth: AuthType) -> Result<Self, RedfishError> {
        let bad = |key: &str, why: &str| RedfishError::Endpoint(format!("driver_info/{key} {why}"));
        let text = |key: &str| match driver_info.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(s)) if s.trim().is_empty() => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(_) => Err(bad(key, "must be a string")),
        };
        let address = text("redfish_address")?.ok_or_else(|| {
            RedfishError::Endpoint("Missing the following Redfish properties in node's driver_info: redfish_address".to_owned())
        })?;
        let address = parse_address(address.trim()).map_err(|why| bad("redfish_address", &why))?;

        let system = text("redfish_system_id")?.map(|s| parse_system(&s).map_err(|why| bad("redfish_system_id", &why))).transpose()?;
        let username = text("redfish_username")?;
        let password = text("redfish_password")?.map(Secret::new);
        let auth = match text("redfish_auth_type")?.as_deref() {
            None => default_auth,
            Some("auto") => AuthType::Auto,
            Some("session") => AuthType::Session,
            Some("basic") => AuthType::Basic,
            Some("none") => AuthType::None,
            Some(_) => return Err(bad("redfish_auth_type", "must be one of auto, session, basic, none")),
        };
        let auth = if username.is_none() { AuthType::None } else { auth };
        let verify = match driver_info.get("redfish_verify_ca") {
            None | Some(Value::Null) => None,
            Some(v) => Some(
                parse_verify(v).ok_or_else(|| bad("redfish_verify_ca", "must be true, false, or the path of a CA file or directory"))?,
            ),
        };
        let min_tls = match text("redfish_tls_minimum_version")?.as_deref() {
            None | Some("1.1" | "1.2") => MinTls::V12,
            Some("1.3") => MinTls::V13,
            Some(_) => return Err(bad("redfish_tls_minimum_version", "must be one of 1.1, 1.2, 1.3")),
        };
        Ok(Self { address, system, username, password, verify, auth, min_tls })
    }

    /// Scheme, host and port: what errors and logs call this BMC, and what limits are counted by.
    #[must_use]
    pub fn origin(&self) -> String {
        self.address.origin().ascii_serialization()
    }
}

/// Reads a value of `redfish_verify_ca` or of the option `[redfish]verify_ca`.
#[must_use]
pub fn parse_verify(value: &Value) -> Option<Verify> {
    match value {
        Value::Bool(true) => Some(Verify::System),
        Value::Bool(false) => Some(Verify::Off),
        Value::String(s) => match s.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(Verify::System),
            "false" | "no" | "off" | "0" => Some(Verify::Off),
            "" => None,
            _ => Some(Verify::Ca(s.trim().to_owned())),
        },
        _ => None,
    }
}

fn parse_address(address: &str) -> Result<Url, String> {
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else {
        // A bare IPv6 address has at least two colons and no bracket.
        let (host, path) = match address.find('/') {
            Some(at) => address.split_at(at),
            None => (address, ""),
        };
        if host.matches(':').count() > 1 && !host.starts_with('[') {
            format!("https://[{host}]{path}")
        } else {
            format!("https://{address}")
        }
    };
    let mut url = Url::parse(&with_scheme).map_err(|e| format!("is not a URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold credentials; use redfish_username and redfish_password".to_owned());
    }
    url.set_query(None);
    url.set_fragment(None);
    // The service root is given by some with the address and by others not.
    let path = url.path().trim_end_matches('/').to_owned();
    let path = path.strip_suffix("/redfish/v1").unwrap_or(&path).to_owned();
    url.set_path(&path);
    Ok(url)
}

fn parse_system(id: &str) -> Result<String, String> {
    let id = id.trim();
    if id.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must be a path such as /redfish/v1/Systems/1".to_owned());
    }
    if !id.starts_with('/') {
        return Err("must be a path that begins with a slash, such as /redfish/v1/Systems/1".to_owned());
    }
    Ok(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(v: Value) -> Result<RedfishEndpoint, RedfishError> {
        RedfishEndpoint::parse(v.as_object().unwrap(), AuthType::Auto)
    }

    #[test]
    fn an_address_without_scheme_is_https_and_ipv6_gets_brackets() {
        for (given, origin) in [
            ("bmc.example", "https://bmc.example"),
            ("bmc.example:8443", "https://bmc.example:8443"),
            ("http://10.0.0.1:8000/", "http://10.0.0.1:8000"),
            ("fd00::5", "https://[fd00::5]"),
            ("[fd00::5]:443", "https://[fd00::5]"),
        ] {
            assert_eq!(parse(json!({"redfish_address": given})).unwrap().origin(), origin, "{given}");
        }
    }

    #[test]
    fn the_root_prefix_is_kept_and_the_service_root_is_not_doubled() {
        let e = parse(json!({"redfish_address": "https://h/prefix/redfish/v1/"})).unwrap();
        assert_eq!(e.address.path(), "/prefix");
        let e = parse(json!({"redfish_address": "https://h/redfish/v1"})).unwrap();
        assert_eq!(e.address.path(), "/");
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (key, value) in [
            ("redfish_address", json!("ftp://x")),
            ("redfish_address", json!(5)),
            ("redfish_address", json!("http://u:p@x")),
            ("redfish_system_id", json!("Systems/1")),
            ("redfish_auth_type", json!("digest")),
            ("redfish_verify_ca", json!([1])),
            ("redfish_tls_minimum_version", json!("1.0")),
        ] {
            let mut v = json!({"redfish_address": "https://h"});
            v[key] = value;
            let e = parse(v).unwrap_err().to_string();
            assert!(e.contains(key), "{e}");
        }
    }

    #[test]
    fn without_a_user_name_no_credentials_are_sent() {
        let e = parse(json!({"redfish_address": "h", "redfish_auth_type": "session"})).unwrap();
        assert_eq!(e.auth, AuthType::None);
    }

    #[test]
    fn the_password_is_not_in_the_debug_text() {
        let e = parse(json!({"redfish_address": "h", "redfish_username": "u", "redfish_password": "hunter2"})).unwrap();
        assert!(!format!("{e:?}").contains("hunter2"));
    }
}
