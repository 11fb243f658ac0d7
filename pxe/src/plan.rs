//! What a machine gets when it asks to boot. Pure data: whoever decides builds it, the boot services only render it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::mac::MacAddr;

/// One machine's next boot. A plan holds no secret besides its nonce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootPlan {
    /// The node that this plan was made for; none for machines that are only being discovered.
    #[serde(default)]
    pub node: Option<Uuid>,
    /// What the script does.
    pub what: BootWhat,
    /// Linux kernel, served as `/boot/<nonce>/kernel`. Needed by `ramdisk` and `discovery`.
    #[serde(default)]
    pub kernel: Option<FileRef>,
    /// Initial ramdisks, concatenated in this order and served as `/boot/<nonce>/ramdisk`.
    #[serde(default)]
    pub layers: Vec<FileRef>,
    /// Kernel parameters, one word each. Words that cannot stand in a script are refused when it is rendered.
    #[serde(default)]
    pub params: Vec<String>,
    /// Unguessable part of the addresses of this plan's files. A new plan needs a new nonce.
    pub nonce: Nonce,
    /// More files, served as `/boot/<nonce>/<name>` (for example `image` or `configdrive`).
    #[serde(default)]
    pub files: BTreeMap<String, FileRef>,
    /// Hardware addresses of the machine. If any are given, an address that is known to belong to another machine
    /// gets 404 for the files too, not only for the script.
    #[serde(default)]
    pub macs: Vec<MacAddr>,
}

/// What the rendered script makes the machine do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootWhat {
    /// Load kernel and ramdisk of a known node (inspect, clean, deploy, rescue).
    Ramdisk,
    /// Load kernel and ramdisk of a machine that nobody enrolled yet.
    Discovery,
    /// Go on to the machine's own disk.
    Local,
    /// An iPXE script given whole by the operator; it must begin with `#!ipxe`.
    Custom {
        /// The script, served as it is.
        script: String,
    },
}

/// Where the bytes of a boot file come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileRef {
    /// A file that this daemon can read.
    Path(PathBuf),
    /// A file elsewhere, `http` or `https`.
    Url(String),
    /// The bytes themselves (small things: a rendered text, a test's kernel). Base64 in serialised form.
    Bytes(#[serde(with = "bytes_as_base64")] Bytes),
}

/// The unguessable name under which a plan's files are served. A capability: kept out of logs.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// 128 random bits as 32 hexadecimal digits.
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// Takes over a nonce that was stored. The caller vouches that it cannot be guessed.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for building addresses and for storing.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether a text from the network can be a nonce at all: 16 to 128 letters, digits, `-` or `_`.
    pub fn is_well_formed(text: &str) -> bool {
        (16..=128).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(redacted)")
    }
}

mod bytes_as_base64 {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_storing_as_json() {
        let plan = BootPlan {
            node: Some(Uuid::from_u128(7)),
            what: BootWhat::Ramdisk,
            kernel: Some(FileRef::Path("/srv/vmlinuz".into())),
            layers: vec![FileRef::Url("http://x/rd".into()), FileRef::Bytes(Bytes::from_static(b"\0\xff"))],
            params: vec!["quiet".into()],
            nonce: Nonce::random(),
            files: BTreeMap::from([("image".into(), FileRef::Path("/srv/i".into()))]),
            macs: vec![MacAddr([2, 0, 0, 0, 0, 1])],
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<BootPlan>(&text).unwrap(), plan);
    }

    #[test]
    fn a_nonce_is_unguessable_and_stays_out_of_debug_output() {
        let nonce = Nonce::random();
        assert_ne!(nonce, Nonce::random());
        assert!(Nonce::is_well_formed(nonce.reveal()));
        assert!(!format!("{nonce:?}").contains(nonce.reveal()));
        assert!(!Nonce::is_well_formed("../../../../etc/passwd"));
        assert!(!Nonce::is_well_formed("short"));
    }
}
