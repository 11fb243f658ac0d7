//! The firmware's SMBIOS table.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_agent::hw::dmi::Table;

fuzz_target!(|data: &[u8]| {
    let table = Table::parse(data);
    let _ = (table.report(), table.memory_mib());
});
