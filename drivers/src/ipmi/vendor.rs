//! Vendor interface `ipmitool`: raw commands and restarts of the BMC.

use std::sync::Arc;

use async_trait::async_trait;
use bessemer_model::node::Node;
use bessemer_model::step::{Replay, Step};
use bessemer_model::{Json, JsonMap};

use super::info::PROPERTIES;
use super::power::{IpmiDriver, within};
use crate::iface::{DriverCx, DriverError, MethodDecl, Property, Result, StepDecl, StepOutcome, Steps, Vendor};

/// Vendor interface.
#[derive(Debug, Clone)]
pub struct IpmiVendor(pub Arc<IpmiDriver>);

const STEPS: &[StepDecl] = &[StepDecl { args: &[("raw_bytes", true)], replay: Replay::Never, ..StepDecl::on_request("send_raw") }];

/// Network function, command and data from text such as `0x00 0x08 0x03 0x08`; the bytes are hexadecimal (with `0x`) or decimal.
fn bytes(text: &str) -> Result<(u8, u8, Vec<u8>)> {
    let byte = |t: &str| match t.strip_prefix("0x").or_else(|| t.strip_prefix("0X")) {
        Some(h) => u8::from_str_radix(h, 16).ok(),
        None => t.parse().ok(),
    };
    let all: Option<Vec<u8>> = text.split([' ', ',']).filter(|t| !t.is_empty()).map(byte).collect();
    match all.as_deref() {
        Some([netfn, cmd, data @ ..]) => Ok((*netfn, *cmd, data.to_vec())),
        _ => Err(DriverError::Invalid(format!(
            "raw_bytes '{}' is invalid: give network function, command and data as bytes, for example '0x00 0x01'",
            text.chars().take(80).collect::<String>()
        ))),
    }
}

impl IpmiVendor {
    /// Sends a raw command, once.
    ///
    /// # Errors
    /// `Invalid` when the text is no command; else what the BMC says.
    pub async fn send_raw(&self, cx: &DriverCx<'_>, raw_bytes: &str) -> Result<Vec<u8>> {
        let (netfn, cmd, data) = bytes(raw_bytes)?;
        let client = self.0.client(cx)?;
        within(cx, "a raw command", async { Ok(client.raw_once(netfn, cmd, &data).await?) }).await
    }

    /// Restarts the BMC.
    ///
    /// # Errors
    /// What the BMC says.
    pub async fn bmc_reset(&self, cx: &DriverCx<'_>, warm: bool) -> Result<()> {
        let client = self.0.client(cx)?;
        within(cx, "restarting the BMC", async { Ok(client.mc_reset(warm).await?) }).await
    }
}

#[async_trait]
impl Steps for IpmiVendor {
    fn properties(&self) -> &'static [Property] {
        PROPERTIES
    }

    fn validate(&self, node: &Node) -> Result<()> {
        self.0.check(node)
    }

    fn steps(&self) -> &'static [StepDecl] {
        STEPS
    }

    async fn run(&self, cx: &DriverCx<'_>, step: &Step) -> Result<StepOutcome> {
        if step.name != "send_raw" {
            return Err(DriverError::Unsupported(format!("the ipmitool vendor interface has no step '{}'", step.name)));
        }
        let text = step.args.get("raw_bytes").and_then(Json::as_str).ok_or_else(|| {
            DriverError::Missing(
                "argument raw_bytes of step vendor.send_raw is missing: give the command as bytes, for example '0x00 0x01'".into(),
            )
        })?;
        self.send_raw(cx, text).await?;
        Ok(StepOutcome::Done)
    }
}

const METHODS: &[MethodDecl] = &[
    MethodDecl::post(
        "bmc_reset",
        "Reset the BMC. Required argument: 'warm' (Boolean) - for warm (True) or cold (False) reset.",
        &[("warm", false)],
    ),
    MethodDecl::post(
        "send_raw",
        "Send raw bytes to the BMC. Required argument: 'raw_bytes' - a string of raw bytes (e.g. '0x00 0x01').",
        &[("raw_bytes", true)],
    ),
];

fn raw_bytes(args: &JsonMap) -> Result<&str> {
    let text = args.get("raw_bytes").and_then(Json::as_str);
    text.ok_or_else(|| DriverError::Invalid("raw_bytes must be text, for example '0x00 0x01'".into()))
}

/// Whether the restart is a warm one; as all flags of the API, it may be a text.
fn warm(args: &JsonMap) -> Result<bool> {
    let bad = || DriverError::Invalid("warm must be true or false".into());
    match args.get("warm") {
        None | Some(Json::Null) => Ok(true),
        Some(Json::Bool(b)) => Ok(*b),
        Some(Json::String(s)) => match s.trim().to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
            "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
            _ => Err(bad()),
        },
        Some(_) => Err(bad()),
    }
}

#[async_trait]
impl Vendor for IpmiVendor {
    fn validate(&self, node: &Node) -> Result<()> {
        self.0.check(node)
    }

    fn methods(&self) -> &'static [MethodDecl] {
        METHODS
    }

    fn check(&self, method: &MethodDecl, args: &JsonMap) -> Result<()> {
        match method.name {
            "send_raw" => bytes(raw_bytes(args)?).map(drop),
            _ => warm(args).map(drop),
        }
    }

    async fn call(&self, cx: &DriverCx<'_>, method: &MethodDecl, args: &JsonMap) -> Result<Json> {
        match method.name {
            "send_raw" => self.send_raw(cx, raw_bytes(args)?).await?,
            _ => {
                self.bmc_reset(cx, warm(args)?).await?;
                vec![]
            }
        };
        Ok(Json::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_read_in_both_notations_and_nothing_else() {
        assert_eq!(bytes("0x00 0x08 3 0x08").unwrap(), (0, 8, vec![3, 8]));
        for bad in ["", "0x06", "0x06 0x100", "power on", "0x06 -1"] {
            assert!(matches!(bytes(bad), Err(DriverError::Invalid(_))), "{bad}");
        }
    }
}
