//! LLDP frames of switches.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = bessemer_agent::hw::lldp::decode(data);
    let mut frame = vec![0; 12];
    frame.extend([0x88, 0xcc]);
    frame.extend(data);
    let _ = bessemer_agent::hw::lldp::decode(&frame);
});
