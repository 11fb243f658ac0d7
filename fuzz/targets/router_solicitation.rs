//! ICMPv6 router solicitations.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = bessemer_pxe::ra::decode_solicitation(data);
});
