//! Boot entries in the firmware's variables.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_agent::disk::efivars::LoadOption;

fuzz_target!(|data: &[u8]| {
    let _ = LoadOption::parse(1, data);
});
