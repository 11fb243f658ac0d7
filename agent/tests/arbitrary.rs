//! Texts and bytes of strangers, read by the agent: kernel parameters, checksum files, the beginnings of images, config drives.
#![allow(clippy::unwrap_used, reason = "tests")]

use bessemer_agent::disk::configdrive;
use bessemer_agent::image::format::{self, FormatRules};
use bessemer_agent::image::verify::Expected;
use bessemer_agent::params::{Params, Settings};
use proptest::prelude::*;

/// Beginnings that some format has, with anything behind.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let magic = prop_oneof![
        Just(vec![]),
        Just(b"QFI\xfb\0\0\0\x03".to_vec()),
        Just(b"QED\0".to_vec()),
        Just(b"KDMV".to_vec()),
        Just(b"conectix".to_vec()),
        Just(b"vhdxfile".to_vec()),
        Just(b"LUKS\xba\xbe".to_vec()),
        Just(b"\x1f\x8b\x08".to_vec()),
        Just([vec![0; 510], vec![0x55, 0xaa], b"EFI PART".to_vec()].concat()),
        Just([vec![0; 0x8001], b"CD001".to_vec()].concat()),
    ];
    (magic, prop::collection::vec(any::<u8>(), 0..2000)).prop_map(|(magic, rest)| [magic, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_kernel_command_line_gives_settings(text in ".{0,300}", name in "ipa[-_][a-z_-]{1,40}", value in ".{0,40}") {
        drop(Settings::from_params(&Params::parse(&text)));
        drop(Settings::from_params(&Params::parse(&format!("{name}={value} {text}"))));
        drop(Settings::from_params(&Params::parse(&format!("{name}=\"{value} BOOTIF={value}"))));
    }

    #[test]
    fn any_checksum_file_is_read_or_refused(text in "[0-9a-fA-F (=)*.#\nSHAMD125-]{0,400}", md5: bool) {
        drop(Expected::from_file(&text, "image.raw", "http://192.0.2.1/sums", None, md5));
        drop(Expected::from_file(&format!("{text}  image.raw"), "image.raw", "http://192.0.2.1/sums", Some("sha512"), md5));
        drop(Expected::parse(&text, None, md5));
    }

    #[test]
    fn what_is_declared_raw_is_never_taken_for_another_format(head in head()) {
        if let (Ok(found), Ok(decided)) = (format::detect(&head), format::decide(&head, Some("raw"), &FormatRules::default())) {
            prop_assert!(matches!(decided, format::Format::Raw | format::Format::Gpt), "{found:?} became {decided:?}");
        }
        drop(format::decide(&head, None, &FormatRules::default()));
        drop(format::decide(&head, Some("qcow2"), &FormatRules::default()));
    }

    #[test]
    fn any_config_drive_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500), text in "[A-Za-z0-9+/= \n]{0,200}") {
        drop(configdrive::decode(&bytes));
        drop(configdrive::decode(text.as_bytes()));
    }
}
