//! Links (`api.md` section 1.6): `self` below `/v1`, `bookmark` without it.

use std::fmt::Display;

use serde::{Serialize, Serializer, ser::SerializeSeq};

/// The pair of links of `{base}/{path}`; renders without intermediate strings.
pub(crate) struct Links<'a, P> {
    /// Public base address, no trailing slash.
    pub base: &'a str,
    /// Path below `/v1/`.
    pub path: P,
}

#[derive(Serialize)]
struct Link<'a> {
    href: Text<'a>,
    rel: &'a str,
}

struct Text<'a>(std::fmt::Arguments<'a>);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<P: Display> Serialize for Links<'_, P> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(Some(2))?;
        seq.serialize_element(&Link { href: Text(format_args!("{}/v1/{}", self.base, self.path)), rel: "self" })?;
        seq.serialize_element(&Link { href: Text(format_args!("{}/{}", self.base, self.path)), rel: "bookmark" })?;
        seq.end()
    }
}

/// The address of the next page. `args` are echoed in order; the limit and the last identity follow.
pub(crate) fn next_page(base: &str, path: &str, args: &[(&str, String)], limit: u32, marker: impl Display) -> String {
    let mut out = format!("{base}/v1/{path}?");
    for (k, v) in args {
        out.push_str(k);
        out.push('=');
        out.push_str(v);
        out.push('&');
    }
    out.push_str(&format!("limit={limit}&marker={marker}"));
    out
}
