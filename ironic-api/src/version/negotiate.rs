//! The microversion header (`api.md` section 1.1).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Version,
    table::{MAX, MIN},
};

/// The header of this API.
pub static VERSION: HeaderName = HeaderName::from_static("x-openstack-ironic-api-version");
static STANDARD: HeaderName = HeaderName::from_static("openstack-api-version");
static MINIMUM: HeaderName = HeaderName::from_static("x-openstack-ironic-api-minimum-version");
static MAXIMUM: HeaderName = HeaderName::from_static("x-openstack-ironic-api-maximum-version");

/// The client asked for a version that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not `1.NN` or `latest`.
    Unparsable(String),
    /// A version, but not one of ours; the answer tells the range.
    OutOfRange(String),
}

impl Refused {
    /// For a person.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Unparsable(v) => format!("Invalid API version '{v}': write 1.NN or latest."),
            Self::OutOfRange(v) => format!("Version {v} was requested but the minor versions served are 1.{MIN} to 1.{MAX}."),
        }
    }
    /// Whether the answer carries the range.
    #[must_use]
    pub const fn tells_range(&self) -> bool {
        matches!(self, Self::OutOfRange(_))
    }
}

/// The version that a request speaks, and whether it said so in the header of this API (which the `.json` suffix depends on).
///
/// # Errors
/// [`Refused`].
pub fn negotiate(headers: &HeaderMap) -> Result<(Version, bool), Refused> {
    let standard = headers.get(&STANDARD).and_then(|v| v.to_str().ok()).and_then(|v| {
        v.split(',').find_map(|one| {
            let mut words = one.split_ascii_whitespace();
            (words.next()?.eq_ignore_ascii_case("baremetal")).then(|| words.next().unwrap_or_default().to_owned())
        })
    });
    let legacy = headers.get(&VERSION).map(|v| String::from_utf8_lossy(v.as_bytes()).trim().to_owned());
    let explicit = legacy.as_deref().is_some_and(|v| !v.is_empty());
    let asked = standard.or(legacy).unwrap_or_default();
    if asked.is_empty() {
        return Ok((Version::MIN, explicit));
    }
    if asked.eq_ignore_ascii_case("latest") {
        return Ok((Version::MAX, explicit));
    }
    let shown: String = asked.chars().take(32).collect();
    let unparsable = || Refused::Unparsable(shown.clone());
    let (major, minor) = asked.split_once('.').ok_or_else(unparsable)?;
    let major: i64 = major.parse().map_err(|_| unparsable())?;
    let minor: i64 = minor.parse().map_err(|_| unparsable())?;
    match u16::try_from(minor) {
        Ok(m) if major == 1 && (MIN..=MAX).contains(&m) => Ok((Version(m), explicit)),
        _ => Err(Refused::OutOfRange(shown)),
    }
}

/// Headers that tell the range.
pub fn range_headers(headers: &mut HeaderMap) {
    headers.insert(MINIMUM.clone(), HeaderValue::from_static("1.1"));
    headers.insert(MAXIMUM.clone(), HeaderValue::from_static("1.115"));
}

/// All three version headers.
pub fn version_headers(headers: &mut HeaderMap, version: Version) {
    range_headers(headers);
    if let Ok(v) = HeaderValue::from_str(&version.to_string()) {
        headers.insert(VERSION.clone(), v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&'static str, &str)]) -> Result<String, Refused> {
        let mut h = HeaderMap::new();
        for (k, v) in pairs {
            h.insert(*k, v.parse().expect("header"));
        }
        negotiate(&h).map(|(v, _)| v.to_string())
    }

    #[test]
    fn the_header_is_read_as_the_contract_says() {
        let x = "x-openstack-ironic-api-version";
        assert_eq!(ask(&[]), Ok("1.1".into()));
        assert_eq!(ask(&[(x, "")]), Ok("1.1".into()));
        assert_eq!(ask(&[(x, "LaTest")]), Ok("1.115".into()));
        assert_eq!(ask(&[(x, "1.58")]), Ok("1.58".into()));
        assert_eq!(ask(&[("openstack-api-version", "compute 2.1, baremetal 1.70"), (x, "1.58")]), Ok("1.70".into()));
        assert_eq!(ask(&[("openstack-api-version", "compute 2.1"), (x, "1.58")]), Ok("1.58".into()));
        for v in ["abc", "1", "1.1.1", "1.x", "."] {
            assert!(matches!(ask(&[(x, v)]), Err(Refused::Unparsable(_))), "{v}");
        }
        for v in ["1.0", "1.116", "2.0", "0.9", "-1.5", "1.99999999"] {
            assert!(matches!(ask(&[(x, v)]), Err(Refused::OutOfRange(_))), "{v}");
        }
    }

    #[test]
    fn the_range_headers_tell_the_range_of_the_table() {
        let mut h = HeaderMap::new();
        range_headers(&mut h);
        assert_eq!(h[&MINIMUM], format!("1.{MIN}").as_str());
        assert_eq!(h[&MAXIMUM], format!("1.{MAX}").as_str());
    }
}
