//! Checksums: which algorithm and value an image must have, and the running hash over what is downloaded.
//!
//! Never compares anything but whole digests and never accepts an image without one.

use md5::Digest as _;
use ring::digest::{Context, SHA256, SHA384, SHA512};

/// Largest checksum file that is read.
pub const MAX_CHECKSUM_FILE: usize = 1 << 20;

/// The expected checksum is missing or not usable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChecksumError {
    /// None was given.
    #[error("no checksum was given for the image: set image_checksum, or image_os_hash_algo and image_os_hash_value")]
    Missing,
    /// Algorithm not known.
    #[error("checksum algorithm {0:?} is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// md5 is switched off.
    #[error("md5 checksums are not allowed here: use sha256 or sha512, or enable agent_md5_checksum_enable")]
    Md5Refused,
    /// Not hexadecimal or of a length that no algorithm has.
    #[error("checksum {0:?} is not a hexadecimal md5, sha256, sha384 or sha512 value")]
    Value(String),
    /// The checksum file does not name the image.
    #[error("the checksum file at {url} has no checksum for {file:?}")]
    NotInFile {
        /// Where the file was.
        url: String,
        /// Name that was looked for.
        file: String,
    },
}

/// Hash algorithm of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5, only where allowed.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Name as in `os_hash_algo`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn by_name(name: &str) -> Result<Self, ChecksumError> {
        match name.trim().to_ascii_lowercase().replace('-', "").as_str() {
            "md5" => Ok(Self::Md5),
            "sha256" => Ok(Self::Sha256),
            "sha384" => Ok(Self::Sha384),
            "sha512" => Ok(Self::Sha512),
            _ => Err(ChecksumError::Algorithm(name.to_owned())),
        }
    }

    const fn by_hex_len(len: usize) -> Option<Self> {
        match len {
            32 => Some(Self::Md5),
            64 => Some(Self::Sha256),
            96 => Some(Self::Sha384),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

/// The digest that the image must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Lower-case hexadecimal.
    pub hex: String,
}

impl Expected {
    /// From a hexadecimal value and, when known, the algorithm's name; without a name the length decides.
    ///
    /// # Errors
    /// When the value is no digest of that algorithm, or is md5 and that is not allowed.
    pub fn parse(value: &str, algorithm: Option<&str>, allow_md5: bool) -> Result<Self, ChecksumError> {
        let hex = value.trim().to_ascii_lowercase();
        let bad = || ChecksumError::Value(shorten(value));
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let algorithm = match algorithm {
            Some(name) => Algorithm::by_name(name)?,
            None => Algorithm::by_hex_len(hex.len()).ok_or_else(bad)?,
        };
        if hex.len() != algorithm.hex_len() {
            return Err(bad());
        }
        if algorithm == Algorithm::Md5 && !allow_md5 {
            return Err(ChecksumError::Md5Refused);
        }
        Ok(Self { algorithm, hex })
    }

    /// Finds the digest of `file` in a checksum file: a single value, `sum  [*]name` lines or
    /// `ALGO (name) = sum` lines; `#` begins a comment.
    ///
    /// # Errors
    /// When no line has a usable digest of that file.
    pub fn from_file(text: &str, file: &str, url: &str, algorithm: Option<&str>, allow_md5: bool) -> Result<Self, ChecksumError> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        if let [only] = lines.as_slice()
            && !only.contains(char::is_whitespace)
        {
            return Self::parse(only, algorithm, allow_md5);
        }
        for line in lines {
            if let Some((algo, name, sum)) = bsd_line(line) {
                if same_file(name, file) && algorithm.is_none_or(|wanted| Algorithm::by_name(wanted).ok() == Algorithm::by_name(algo).ok())
                {
                    return Self::parse(sum, Some(algo), allow_md5);
                }
            } else if let Some((sum, name)) = line.split_once(char::is_whitespace) {
                let name = name.trim_start();
                if same_file(name.strip_prefix('*').unwrap_or(name), file) {
                    return Self::parse(sum, algorithm, allow_md5);
                }
            }
        }
        Err(ChecksumError::NotInFile { url: url.to_owned(), file: file.to_owned() })
    }
}

/// `SHA256 (name) = sum`.
fn bsd_line(line: &str) -> Option<(&str, &str, &str)> {
    let (algo, rest) = line.split_once('(')?;
    let (name, sum) = rest.rsplit_once(')')?;
    let sum = sum.trim_start().strip_prefix('=')?;
    Some((algo.trim(), name, sum.trim()))
}

fn same_file(listed: &str, wanted: &str) -> bool {
    let listed = listed.trim();
    listed == wanted || listed.rsplit('/').next() == Some(wanted)
}

fn shorten(value: &str) -> String {
    value.chars().take(140).collect()
}

/// Running hash. SHA-2 is ring's, which is there for TLS anyway: it has assembler for processors with and without
/// instructions for it.
pub(crate) enum Hasher {
    Md5(md5::Md5),
    Sha2(Context),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::Md5(md5::Md5::new()),
            Algorithm::Sha256 => Self::Sha2(Context::new(&SHA256)),
            Algorithm::Sha384 => Self::Sha2(Context::new(&SHA384)),
            Algorithm::Sha512 => Self::Sha2(Context::new(&SHA512)),
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Md5(h) => h.update(data),
            Self::Sha2(h) => h.update(data),
        }
    }

    pub(crate) fn finish(self) -> String {
        match self {
            Self::Md5(h) => hex::encode(h.finalize()),
            Self::Sha2(h) => hex::encode(h.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn the_length_of_a_value_tells_its_algorithm() {
        assert_eq!(Expected::parse(SHA256, None, false).unwrap().algorithm, Algorithm::Sha256);
        assert_eq!(Expected::parse(&SHA256.repeat(2), None, false).unwrap().algorithm, Algorithm::Sha512);
        assert_eq!(Expected::parse(&SHA256.to_uppercase(), Some("SHA-256"), false).unwrap().hex, SHA256);
    }

    #[test]
    fn md5_is_refused_unless_allowed() {
        assert_eq!(Expected::parse(MD5, None, false), Err(ChecksumError::Md5Refused));
        assert_eq!(Expected::parse(MD5, None, true).unwrap().algorithm, Algorithm::Md5);
    }

    #[test]
    fn a_value_that_is_no_digest_is_refused() {
        for bad in ["", "zz", "abc", &SHA256[1..], "é"] {
            assert!(Expected::parse(bad, None, true).is_err(), "{bad}");
        }
        assert!(Expected::parse(SHA256, Some("sha512"), true).is_err());
        assert!(Expected::parse(SHA256, Some("crc32"), true).is_err());
    }

    #[test]
    fn checksum_files_of_all_usual_shapes_are_read() {
        let gnu = format!("# made today\n{}  other.img\n{SHA256} *disk.img\n", "0".repeat(64));
        let bsd = format!("SHA256 (other.img) = {}\nSHA256 (disk.img) = {SHA256}\n", "0".repeat(64));
        let path = format!("{SHA256}  ./out/disk.img\n{}  b\n", "0".repeat(64));
        for text in [SHA256.to_owned(), gnu, bsd, path] {
            let found = Expected::from_file(&text, "disk.img", "http://x/s", None, false).unwrap();
            assert_eq!(found.hex, SHA256);
        }
    }

    #[test]
    fn a_checksum_file_without_the_image_is_an_error() {
        let text = format!("{SHA256}  other.img\n{SHA256}  third.img\n");
        assert!(matches!(Expected::from_file(&text, "disk.img", "http://x/s", None, false), Err(ChecksumError::NotInFile { .. })));
    }

    #[test]
    fn the_running_hash_is_the_known_digest_of_nothing() {
        assert_eq!(Hasher::new(Algorithm::Sha256).finish(), SHA256);
        assert_eq!(Hasher::new(Algorithm::Md5).finish(), MD5);
    }

    #[test]
    fn every_hash_in_ragged_pieces_is_that_of_another_implementation() {
        use sha2::Digest as _;
        let data: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
        let want = [
            (Algorithm::Sha256, hex::encode(sha2::Sha256::digest(&data))),
            (Algorithm::Sha384, hex::encode(sha2::Sha384::digest(&data))),
            (Algorithm::Sha512, hex::encode(sha2::Sha512::digest(&data))),
        ];
        for (algorithm, want) in want {
            let mut hasher = Hasher::new(algorithm);
            let mut rest = &data[..];
            for len in (1..).step_by(97) {
                let (piece, more) = rest.split_at(len.min(rest.len()));
                hasher.update(piece);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            assert_eq!(hasher.finish(), want, "{algorithm:?}");
        }
    }
}
