//! From `driver_info` to an [`IpmiEndpoint`], with errors that name the key and the remedy.

use std::time::Duration;

use bessemer_model::node::Node;
use bessemer_model::secret::Secret;
use bessemer_model::{Json, JsonMap};

use super::client::IpmiEndpoint;
use super::crypto::{self, CipherSuite};
use super::error::IpmiError;
use super::session::{MAX_USER, Privilege};
use crate::iface::{DriverError, Property};

/// Settings that hold for every node: section `[ipmi]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpmiSettings {
    /// `command_retry_timeout`: deadline of one command with all its retries.
    pub command_retry_timeout: Duration,
    /// `min_command_interval`: least time between two commands to one BMC.
    pub min_command_interval: Duration,
    /// `cipher_suite_versions`: suites to try, in this order, on nodes without `ipmi_cipher_suite`.
    pub cipher_suite_versions: Vec<u8>,
    /// `disable_boot_timeout`: on nodes without `ipmi_disable_boot_timeout`.
    pub disable_boot_timeout: bool,
    /// First pause between two looks at a power state that is to change; grows to four times this.
    pub poll_interval: Duration,
    /// Pause between "off" and "on" of a reboot: power supplies need to drain.
    pub reboot_pause: Duration,
}

impl Default for IpmiSettings {
    fn default() -> Self {
        Self {
            command_retry_timeout: Duration::from_secs(60),
            min_command_interval: Duration::from_millis(50),
            cipher_suite_versions: vec![17, 3],
            disable_boot_timeout: true,
            poll_interval: Duration::from_millis(500),
            reboot_pause: Duration::from_secs(1),
        }
    }
}

/// Keys that the `ipmitool` interfaces read.
pub const PROPERTIES: &[Property] = &[
    Property { key: "ipmi_address", text: "Required. Name or address of the BMC." },
    Property { key: "ipmi_username", text: "Optional. User name, at most 16 bytes; default is the NULL user." },
    Property { key: "ipmi_password", text: "Optional. Password, at most 20 bytes." },
    Property { key: "ipmi_port", text: "Optional. UDP port of the BMC, default 623." },
    Property { key: "ipmi_priv_level", text: "Optional. Privilege level: ADMINISTRATOR (default), OPERATOR, USER or CALLBACK." },
    Property { key: "ipmi_hex_kg_key", text: "Optional. BMC key (Kg) for two-key authentication, 40 hexadecimal digits." },
    Property { key: "ipmi_cipher_suite", text: "Optional. Number of the one cipher suite to use; default is to try 17, then 3." },
    Property { key: "ipmi_protocol_version", text: "Optional. Version of the IPMI protocol; \"2.0\" (default) is supported." },
    Property { key: "ipmi_bridging", text: "Optional. Bridging to another controller; \"no\" (default) is supported." },
    Property { key: "ipmi_force_boot_device", text: "Optional. Set the boot device again before each power on; default false." },
    Property {
        key: "ipmi_disable_boot_timeout",
        text: "Optional. Tell the BMC to keep a boot device longer than 60 seconds; default [ipmi]disable_boot_timeout.",
    },
    Property { key: "ipmi_terminal_port", text: "Optional. Local port of the serial console." },
];

fn invalid(key: &str, remedy: &str) -> DriverError {
    DriverError::Invalid(format!("driver_info/{key} is invalid: {remedy}"))
}

/// A value given as text, number or (for what looks like one) anything else but structure.
fn text(info: &JsonMap, key: &str) -> Result<Option<String>, DriverError> {
    match info.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(s)) => Ok(Some(s.clone())),
        Some(Json::Number(n)) => Ok(Some(n.to_string())),
        Some(Json::Bool(b)) => Ok(Some(b.to_string())),
        Some(_) => Err(invalid(key, "it must be a plain value")),
    }
}

fn non_empty(info: &JsonMap, key: &str) -> Result<Option<String>, DriverError> {
    Ok(text(info, key)?.filter(|s| !s.is_empty()))
}

/// A flag, as boolean or in the words that Ironic takes for one.
pub(super) fn flag(info: &JsonMap, key: &str) -> Result<Option<bool>, DriverError> {
    let Some(t) = non_empty(info, key)? else { return Ok(None) };
    match t.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(Some(true)),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(Some(false)),
        _ => Err(invalid(key, "use true or false")),
    }
}

fn port(info: &JsonMap, key: &str) -> Result<Option<u16>, DriverError> {
    let Some(t) = non_empty(info, key)? else { return Ok(None) };
    match t.trim().parse::<u16>() {
        Ok(n) if n > 0 => Ok(Some(n)),
        _ => Err(invalid(key, "use a port number from 1 to 65535")),
    }
}

/// Reads and checks everything; asks nobody.
///
/// # Errors
/// `Missing` or `Invalid`, naming the key; `NotBuilt` for IPMI 1.5 and bridging.
pub fn endpoint(node: &Node, settings: &IpmiSettings) -> Result<IpmiEndpoint, DriverError> {
    let info = &node.spec.driver_info;
    let host = non_empty(info, "ipmi_address")?.map(|h| h.trim().to_owned()).filter(|h| !h.is_empty()).ok_or_else(|| {
        DriverError::Missing("driver_info/ipmi_address is missing: set it to the name or address of the node's BMC".into())
    })?;
    if host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(invalid("ipmi_address", "use a host name or an address, without scheme, path or blanks"));
    }
    match non_empty(info, "ipmi_protocol_version")?.as_deref() {
        None | Some("2.0" | "2") => {}
        Some("1.5") => return Err(DriverError::NotBuilt("IPMI 1.5 (driver_info/ipmi_protocol_version)".into())),
        Some(_) => return Err(invalid("ipmi_protocol_version", "use 2.0")),
    }
    match non_empty(info, "ipmi_bridging")?.as_deref() {
        None | Some("no") => {}
        Some("single" | "dual") => return Err(DriverError::NotBuilt("bridged IPMI (driver_info/ipmi_bridging)".into())),
        Some(_) => return Err(invalid("ipmi_bridging", "use no, single or dual")),
    }
    let username = text(info, "ipmi_username")?.unwrap_or_default();
    if username.len() > MAX_USER {
        return Err(invalid("ipmi_username", "the protocol allows at most 16 bytes"));
    }
    let password = text(info, "ipmi_password")?.unwrap_or_default();
    if password.len() > crypto::KEY_LEN {
        return Err(invalid("ipmi_password", "the protocol allows at most 20 bytes"));
    }
    flag(info, "ipmi_force_boot_device")?;
    flag(info, "ipmi_disable_boot_timeout")?;
    port(info, "ipmi_terminal_port")?;
    Ok(IpmiEndpoint {
        host,
        port: port(info, "ipmi_port")?.unwrap_or(623),
        username,
        password: Secret::new(password),
        kg: kg(info)?,
        privilege: privilege(info)?,
        cipher_suites: suites(info, settings)?,
        min_command_interval: settings.min_command_interval,
        timeout: settings.command_retry_timeout,
    })
}

fn privilege(info: &JsonMap) -> Result<Privilege, DriverError> {
    match non_empty(info, "ipmi_priv_level")?.map(|s| s.to_ascii_uppercase()).as_deref() {
        None | Some("ADMINISTRATOR") => Ok(Privilege::Administrator),
        Some("OPERATOR") => Ok(Privilege::Operator),
        Some("USER") => Ok(Privilege::User),
        Some("CALLBACK") => Ok(Privilege::Callback),
        Some(_) => Err(invalid("ipmi_priv_level", "use ADMINISTRATOR, OPERATOR, USER or CALLBACK")),
    }
}

fn kg(info: &JsonMap) -> Result<Option<Secret<Vec<u8>>>, DriverError> {
    let Some(digits) = non_empty(info, "ipmi_hex_kg_key")? else { return Ok(None) };
    // The value is a secret: the error must not repeat it.
    let key = hex::decode(digits.trim())
        .ok()
        .filter(|k| k.len() == crypto::KEY_LEN)
        .ok_or_else(|| invalid("ipmi_hex_kg_key", "use exactly 40 hexadecimal digits"))?;
    // A key of zeroes is what BMCs have when none is set.
    Ok(key.iter().any(|b| *b != 0).then(|| Secret::new(key)))
}

fn suites(info: &JsonMap, settings: &IpmiSettings) -> Result<Vec<u8>, DriverError> {
    let Some(t) = non_empty(info, "ipmi_cipher_suite")? else {
        return Ok(if settings.cipher_suite_versions.is_empty() { vec![17, 3] } else { settings.cipher_suite_versions.clone() });
    };
    match t.trim().parse::<u8>().ok().and_then(CipherSuite::by_id) {
        Some(s) => Ok(vec![s.id]),
        None => Err(invalid("ipmi_cipher_suite", "use 17 or 3 (also known: 0, 1, 2, 6, 7, 8, 15, 16)")),
    }
}

impl From<IpmiError> for DriverError {
    fn from(e: IpmiError) -> Self {
        let text = e.to_string();
        match e {
            IpmiError::Resolve { .. } | IpmiError::Socket { .. } | IpmiError::Unreachable { .. } => Self::Unreachable(text),
            IpmiError::Credentials { .. } => Self::Credentials(text),
            IpmiError::OutcomeUnknown { .. } => Self::TimedOut(text),
            IpmiError::NoSession { .. } => Self::Busy(text),
            IpmiError::Completion { code, .. } if super::error::is_busy(code) => Self::Busy(text),
            IpmiError::Argument { .. } => Self::Invalid(text),
            IpmiError::Fenced { .. } => Self::Fenced(text),
            _ => Self::Refused(text),
        }
    }
}
