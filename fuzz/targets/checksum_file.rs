//! Checksum files of image servers.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_agent::image::verify::Expected;

fuzz_target!(|input: (&str, bool)| {
    let (text, sha512) = input;
    let algorithm = sha512.then_some("sha512");
    let _ = Expected::from_file(text, "image.raw", "http://192.0.2.1/SHA256SUMS", algorithm, true);
    let _ = Expected::parse(text, algorithm, false);
});
