//! Links (`api.md` section 1.6): `self` below `/v1`, `bookmark` without it.

use std::fmt::Display;

use serde::{Serialize, Serializer, ser::SerializeSeq};

/// The pair of links of `{base}/{path}`.
pub(crate) struct Links<'a, P> {
    /// Public base address, no trailing slash.
    pub base: &'a str,
    /// Path below `/v1/`.
    pub path: P,
}

#[derive(Serialize)]
struct Link<'a> {
    href: &'a str,
    rel: &'a str,
}

const VERSION: &str = "/v1";

impl<P: Display> Serialize for Links<'_, P> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(Some(2))?;
        // Both in one text: half of what a list of nodes tells is links.
        let mut href = format!("{}{VERSION}/{}", self.base, self.path);
        seq.serialize_element(&Link { href: &href, rel: "self" })?;
        href.drain(self.base.len()..self.base.len() + VERSION.len());
        seq.serialize_element(&Link { href: &href, rel: "bookmark" })?;
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
