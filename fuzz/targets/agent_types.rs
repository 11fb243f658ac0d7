//! JSON that agents and conductors send each other.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_agent_types::command::CommandResult;
use bessemer_agent_types::inspection::InspectionReport;
use bessemer_agent_types::inventory::Inventory;

fuzz_target!(|data: &[u8]| {
    if let Ok(report) = serde_json::from_slice::<InspectionReport>(data) {
        let again = serde_json::to_vec(&report).expect("a report is JSON");
        let again: InspectionReport = serde_json::from_slice(&again).expect("what was written can be read");
        assert_eq!(again, report);
    }
    let _ = serde_json::from_slice::<Inventory>(data);
    let _ = serde_json::from_slice::<CommandResult>(data);
});
