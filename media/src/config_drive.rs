//! Config drives: the OpenStack layout on an ISO 9660 medium with the label `config-2`, as cloud-init and its like read it.

use std::io::Read;

use base64::Engine as _;
use flate2::{Compression, GzBuilder};
use serde_json::Value;

use crate::error::MediaError;
use crate::iso::IsoImage;
use crate::tree::Tree;

/// Volume label that readers look for.
pub const LABEL: &str = "config-2";
/// Metadata versions, each with all files: the oldest one that has them, and the newest.
pub const VERSIONS: [&str; 2] = ["2012-08-10", "latest"];

/// Makes the image of a config drive: `openstack/{2012-08-10,latest}/` with `meta_data.json`, and `user_data`,
/// `network_data.json` and `vendor_data2.json` where given.
pub fn config_drive(
    meta_data: &Value,
    user_data: Option<&[u8]>,
    network_data: Option<&Value>,
    vendor_data: Option<&Value>,
) -> Result<Vec<u8>, MediaError> {
    let mut tree = Tree::new();
    for version in VERSIONS {
        tree.add(&format!("openstack/{version}/meta_data.json"), meta_data.to_string().into_bytes())?;
        if let Some(v) = network_data {
            tree.add(&format!("openstack/{version}/network_data.json"), v.to_string().into_bytes())?;
        }
        if let Some(v) = vendor_data {
            tree.add(&format!("openstack/{version}/vendor_data2.json"), v.to_string().into_bytes())?;
        }
        if let Some(u) = user_data {
            tree.add(&format!("openstack/{version}/user_data"), u)?;
        }
    }
    from_tree(&tree)
}

/// Makes the image of a config drive from any files (a directory given to a command line, for example).
pub fn from_tree(tree: &Tree<'_>) -> Result<Vec<u8>, MediaError> {
    IsoImage::new(LABEL, tree)?.to_bytes()
}

/// The form in which a config drive travels through the API: base64 of gzip of the image. Equal images give equal text.
pub fn encode(image: &[u8]) -> Result<String, MediaError> {
    let mut packed = Vec::new();
    let mut gz = GzBuilder::new().mtime(0).read(image, Compression::default());
    gz.read_to_end(&mut packed)?;
    Ok(base64::engine::general_purpose::STANDARD.encode(packed))
}

/// The image of an encoded config drive, at most `limit` bytes of it. White space in the text is skipped (base64 tools wrap
/// lines), and an image that was not compressed is taken as it is.
pub fn decode(text: &str, limit: u64) -> Result<Vec<u8>, MediaError> {
    let too_large = || MediaError::TooLarge { what: "the config drive".to_owned(), limit, unit: "bytes" };
    let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let packed =
        base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| MediaError::Encoding(format!("it is not base64: {e}")))?;
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return if packed.len() as u64 > limit { Err(too_large()) } else { Ok(packed) };
    }
    let mut image = Vec::new();
    flate2::read::MultiGzDecoder::new(packed.as_slice())
        .take(limit.saturating_add(1))
        .read_to_end(&mut image)
        .map_err(|e| MediaError::Encoding(format!("it cannot be unpacked: {e}")))?;
    if image.len() as u64 > limit { Err(too_large()) } else { Ok(image) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn encoding_is_reversible_and_always_the_same() {
        let image = config_drive(&json!({"uuid": "1"}), Some(b"#!/bin/sh\n"), None, None).unwrap();
        let text = encode(&image).unwrap();
        assert_eq!(text, encode(&config_drive(&json!({"uuid": "1"}), Some(b"#!/bin/sh\n"), None, None).unwrap()).unwrap());
        assert_eq!(decode(&text, 1 << 20).unwrap(), image);
        let wrapped: String = text.as_bytes().chunks(76).map(|c| format!("{}\n", String::from_utf8_lossy(c))).collect();
        assert_eq!(decode(&wrapped, 1 << 20).unwrap(), image);
    }

    #[test]
    fn what_is_no_config_drive_or_too_large_is_refused() {
        assert!(decode("not base64!", 100).is_err());
        let bomb = encode(&vec![0; 1 << 20]).unwrap();
        assert!(matches!(decode(&bomb, 1000), Err(MediaError::TooLarge { .. })));
        let cut = &bomb[..bomb.len() / 2 / 4 * 4];
        assert!(decode(cut, 1 << 21).is_err());
    }
}
