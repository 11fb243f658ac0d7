//! The Range header: a part that is granted lies within the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_pxe::http::range::{self, Asked};

fuzz_target!(|input: (u64, &[u8])| {
    let (len, header) = input;
    if let Asked::Part(part) = range::parse(header, len) {
        assert!(part.start < part.end && part.end <= len, "{part:?} of {len}");
    }
});
