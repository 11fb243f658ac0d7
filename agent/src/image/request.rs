//! What an image write is asked to do: the `image_info` of the agent protocol and the agent's own settings.
//!
//! Credentials never show in the debug form.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bessemer_model::secret::Secret;
use serde::Deserialize;

use super::ImageError;
use super::client::HttpOptions;
use super::decode::DecoderLimit;
use super::fetch::FetchPolicy;
use super::format::FormatRules;

/// `image_info` of `standby.prepare_image` and `deploy.execute_deploy_step` (`agent.md` section 10).
/// Unknown keys are ignored, null is the same as absent.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct ImageInfo {
    /// Name or id of the image.
    pub id: String,
    /// Where it can be read; tried in order.
    pub urls: Vec<String>,
    /// Digest or URL of a checksum file.
    pub checksum: Option<String>,
    /// Name of the algorithm of `os_hash_value`.
    pub os_hash_algo: Option<String>,
    /// Digest or URL of a checksum file; preferred over `checksum`.
    pub os_hash_value: Option<String>,
    /// `raw`, `gpt` or `qcow2`; anything else is refused.
    pub disk_format: Option<String>,
    /// `whole-disk`, `partition`…
    pub image_type: Option<String>,
    /// Set for partition images.
    pub kernel: Option<String>,
    /// Set for partition images.
    pub ramdisk: Option<String>,
    /// Proxy URL by scheme.
    pub proxies: Option<BTreeMap<String, String>>,
    /// Comma list of hosts without proxy.
    pub no_proxy: Option<String>,
    /// `noauth` or `http_basic`.
    pub image_server_auth_strategy: Option<String>,
    /// User for `http_basic`.
    pub image_server_user: Option<String>,
    /// Password for `http_basic`.
    pub image_server_password: Option<String>,
    /// Base64 of a whole Authorization header value.
    pub image_request_authorization: Option<String>,
}

impl fmt::Debug for ImageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageInfo")
            .field("id", &self.id)
            .field("checksum", &self.checksum)
            .field("os_hash_algo", &self.os_hash_algo)
            .field("os_hash_value", &self.os_hash_value)
            .field("disk_format", &self.disk_format)
            .field("image_type", &self.image_type)
            .finish_non_exhaustive()
    }
}

impl ImageInfo {
    /// Value of the Authorization header that the image server wants.
    fn authorization(&self) -> Result<Option<Secret<String>>, ImageError> {
        if let Some(encoded) = &self.image_request_authorization {
            let bad = || ImageError::Request("image_request_authorization is not base64 of a header value".into());
            let bytes = STANDARD.decode(encoded.trim()).map_err(|_| bad())?;
            return Ok(Some(Secret::new(String::from_utf8(bytes).map_err(|_| bad())?)));
        }
        match self.image_server_auth_strategy.as_deref() {
            None | Some("" | "noauth") => Ok(None),
            Some("http_basic") => match (&self.image_server_user, &self.image_server_password) {
                (Some(user), Some(password)) => Ok(Some(Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))))),
                _ => Err(ImageError::Request(
                    "image_server_auth_strategy http_basic needs image_server_user and image_server_password".into(),
                )),
            },
            Some(other) => Err(ImageError::Request(format!("image_server_auth_strategy {other:?} is not known: use noauth or http_basic"))),
        }
    }

    fn is_partition_image(&self) -> bool {
        self.image_type.as_deref() == Some("partition") || self.kernel.is_some() || self.ramdisk.is_some()
    }
}

/// The agent's own settings for image writes, from the kernel command line and the conductor's lookup answer.
#[derive(Clone, Debug, Default)]
pub struct ImageSettings {
    /// Patience with the image server.
    pub policy: FetchPolicy,
    /// PEM certificates to trust beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// No verification of the image server's certificate.
    pub insecure: bool,
    /// Permitted formats.
    pub rules: FormatRules,
    /// Whether md5 is accepted (`agent_md5_checksum_enable`).
    pub allow_md5: bool,
}

/// One image write.
#[derive(Clone, Debug)]
pub struct WriteImageRequest {
    /// Block device (or, in tests, a file of the disk's size).
    pub device: PathBuf,
    /// URLs of the image, tried in order.
    pub urls: Vec<String>,
    /// Digest or URL of a checksum file.
    pub checksum: Option<String>,
    /// Name of the checksum's algorithm, else its length tells.
    pub algorithm: Option<String>,
    /// Declared format.
    pub disk_format: Option<String>,
    /// How to speak to the server.
    pub http: HttpOptions,
    /// Patience with the server.
    pub policy: FetchPolicy,
    /// Permitted formats.
    pub rules: FormatRules,
    /// Whether md5 is accepted.
    pub allow_md5: bool,
    /// Bound on the decoder's memory.
    pub decoder: DecoderLimit,
    /// Whether old signatures anywhere on the disk are wiped before the first byte is written.
    pub wipe_metadata: bool,
    /// Whether disks with shared-storage file systems are refused by that wipe.
    pub guard_special: bool,
}

impl WriteImageRequest {
    /// A request for a whole-disk image on `device`.
    ///
    /// # Errors
    /// When the image is a partition image, has no URL, or its credentials make no sense.
    pub fn from_image_info(info: &ImageInfo, device: &Path, settings: &ImageSettings) -> Result<Self, ImageError> {
        if info.is_partition_image() {
            return Err(ImageError::PartitionImage);
        }
        if info.urls.is_empty() {
            return Err(ImageError::Request("image_info.urls is empty".into()));
        }
        let (checksum, algorithm) = match (&info.os_hash_value, &info.os_hash_algo) {
            (Some(value), algorithm) => (Some(value.clone()), algorithm.clone()),
            (None, _) => (info.checksum.clone(), None),
        };
        Ok(Self {
            device: device.to_owned(),
            urls: info.urls.clone(),
            checksum,
            algorithm,
            disk_format: info.disk_format.clone(),
            http: HttpOptions {
                ca_pem: settings.ca_pem.clone(),
                insecure: settings.insecure,
                authorization: info.authorization()?,
                proxies: info.proxies.clone().unwrap_or_default(),
                no_proxy: info.no_proxy.clone(),
            },
            policy: settings.policy.clone(),
            rules: settings.rules.clone(),
            allow_md5: settings.allow_md5,
            decoder: DecoderLimit::of_this_machine(),
            wipe_metadata: true,
            guard_special: true,
        })
    }
}
