//! `fake` console, indicators and vendor methods.

use std::sync::Arc;

use async_trait::async_trait;
use bessemer_model::{Json, JsonMap, node::Node};

use super::FakeHardware;
use crate::iface::{Console, DriverCx, DriverError, Indicator, IndicatorState, MethodDecl, Result, Vendor};

/// `fake` console: runs nowhere and can be reached nowhere.
#[derive(Clone, Debug)]
pub struct FakeConsole(pub Arc<FakeHardware>);

#[async_trait]
impl Console for FakeConsole {
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }
    async fn start(&self, _cx: &DriverCx<'_>) -> Result<()> {
        self.0.operate("console", "start").await
    }
    async fn stop(&self, _cx: &DriverCx<'_>) -> Result<()> {
        self.0.operate("console", "stop").await
    }
    async fn info(&self, _cx: &DriverCx<'_>) -> Result<Json> {
        Ok(Json::Object(JsonMap::new()))
    }
}

/// The lamps of every fake machine.
pub(super) fn indicators(component: Option<&str>) -> Vec<Indicator> {
    use IndicatorState::{Blinking, Off, On};
    let all = [
        Indicator { component: "chassis", name: "led-0".into(), readonly: true, states: vec![Off, On] },
        Indicator { component: "system", name: "led".into(), readonly: false, states: vec![Blinking, Off, On] },
    ];
    all.into_iter().filter(|i| component.is_none_or(|c| c == i.component)).collect()
}

/// State of a lamp: they always burn.
pub(super) fn indicator(component: &str, name: &str) -> Result<IndicatorState> {
    let there = indicators(Some(component));
    if there.is_empty() {
        return Err(DriverError::Invalid(format!("Invalid component {component} specified.")));
    }
    if !there.iter().any(|i| i.name == name) {
        return Err(DriverError::Invalid(format!("Invalid indicator {name} specified.")));
    }
    Ok(IndicatorState::On)
}

/// The methods of `fake` vendor: each compares its argument with a word.
const METHODS: &[MethodDecl] = &[
    MethodDecl { exclusive: false, ..compare("fourth_method_shared_lock", "Test if the value of bar is woof") },
    MethodDecl { open: true, ..MethodDecl::post("log_passthrough", "Test pass-through to wait.", &[]) },
    compare("second_method", "Test if the value of bar is kazoo"),
    MethodDecl { asynchronous: false, open: false, ..compare("third_method_sync", "Test if the value of bar is meow") },
];

const fn compare(name: &'static str, text: &'static str) -> MethodDecl {
    MethodDecl { open: true, ..MethodDecl::post(name, text, &[("bar", true)]) }
}

/// `fake` vendor.
#[derive(Clone, Debug)]
pub struct FakeVendor(pub Arc<FakeHardware>);

#[async_trait]
impl Vendor for FakeVendor {
    fn methods(&self) -> &'static [MethodDecl] {
        METHODS
    }
    async fn call(&self, _cx: &DriverCx<'_>, method: &MethodDecl, args: &JsonMap) -> Result<Json> {
        self.0.operate("vendor", method.name).await?;
        let wanted = match method.name {
            "second_method" => "kazoo",
            "third_method_sync" => "meow",
            "fourth_method_shared_lock" => "woof",
            _ => return Ok(Json::Null),
        };
        Ok(Json::Bool(args.get("bar").and_then(Json::as_str) == Some(wanted)))
    }
}
