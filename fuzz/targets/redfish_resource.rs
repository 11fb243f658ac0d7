//! What a BMC says in JSON, read with every reader that the Redfish client has.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_drivers::redfish::resource::{self, Resource};
use serde_json::Value;

const PATHS: &[&[&str]] = &[
    &[],
    &["Id"],
    &["Members"],
    &["Boot", "BootSourceOverrideTarget"],
    &["Links", "ManagedBy"],
    &["Status", "Health"],
    &["Actions", "#ComputerSystem.Reset", "target"],
    &["MemorySummary", "TotalSystemMemoryGiB"],
];

fuzz_target!(|data: &[u8]| {
    let body: Value = serde_json::from_slice(data).unwrap_or(Value::Null);
    let raw = String::from_utf8_lossy(data);
    let _ = resource::messages(&body, &raw).to_string();
    let whole = Resource { path: "/redfish/v1/Systems/1".into(), etag: None, body };
    for path in PATHS {
        let _ = (whole.at(path), whole.text(path), whole.link(path));
        assert!(whole.links(path).len() <= resource::MAX_MEMBERS);
        let v = &whole.body;
        let _ = (resource::number(v, path), resource::float(v, path), resource::boolean(v, path), resource::texts(v, path));
    }
});
