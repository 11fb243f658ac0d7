//! Query parameters and the list rules of `api.md` section 1.6.

use bessemer_model::{
    Json, boolean,
    fault::{Fault, FaultKind},
};
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use crate::{
    body::Body,
    version::{Behaviour, FieldSet, FieldTable, Version},
};

/// The parameters of a request, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

/// Parameters that may be repeated; their values join.
const LISTS: &[&str] = &["fields", "shard", "conductor_groups", "addresses", "device_types"];

impl Query {
    /// Decodes the part after `?`.
    ///
    /// # Errors
    /// A text that is not UTF-8.
    pub fn parse(raw: Option<&str>) -> Result<Self, Fault> {
        let mut out = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |s: &str| {
                percent_decode_str(&s.replace('+', " "))
                    .decode_utf8()
                    .map(std::borrow::Cow::into_owned)
                    .map_err(|_| Fault::invalid("A query parameter is not UTF-8."))
            };
            out.push((decode(k)?, decode(v)?));
        }
        Ok(Self(out))
    }

    /// With the fields that the path asks for beside.
    pub fn with_fields(mut self, fields: Option<String>) -> Self {
        self.0.extend(fields.map(|f| ("fields".to_owned(), f)));
        self
    }

    /// With the arguments that the body of a DELETE names: the contract takes them from either place. A body that is no object names none.
    pub fn with_arguments(mut self, body: &Body) -> Self {
        let text = |v: Json| match v {
            Json::String(s) => s,
            Json::Array(a) => a.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        };
        self.0.extend(body.args().unwrap_or_default().0.into_iter().map(|(k, v)| (k, text(v))));
        self
    }

    /// Refuses parameters that are not in `names` and single-valued ones that are repeated.
    ///
    /// # Errors
    /// `InvalidParameterValue`.
    pub fn only(&self, names: &[&str]) -> Result<(), Fault> {
        for (i, (k, _)) in self.0.iter().enumerate() {
            if !names.contains(&k.as_str()) {
                return Err(Fault::invalid(format!("Unexpected arguments: \"{k}\"")));
            }
            if !LISTS.contains(&k.as_str()) && self.0[..i].iter().any(|(other, _)| other == k) {
                return Err(Fault::invalid(format!("The query parameter \"{k}\" was given more than once.")));
            }
        }
        Ok(())
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _)| k.as_str())
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A copy of the value of a parameter.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// A boolean.
    pub fn bool(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.get(name)
            .map(|v| boolean::from_text(v).ok_or_else(|| Fault::invalid(format!("Invalid value for {name}: \"{v}\" is not a boolean."))))
            .transpose()
    }

    /// A UUID.
    pub fn uuid(&self, name: &str) -> Result<Option<Uuid>, Fault> {
        self.get(name)
            .map(|v| parse_uuid(v).ok_or_else(|| Fault::invalid(format!("Expected a UUID for {name} but received {v}."))))
            .transpose()
    }

    /// A comma-separated list: trimmed, in lower case, each item once.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        let mut given = false;
        let mut out: Vec<String> = Vec::new();
        for (_, v) in self.0.iter().filter(|(k, _)| k == name) {
            given = true;
            for item in v.split(',').map(|i| i.trim().to_lowercase()).filter(|i| !i.is_empty()) {
                if !out.contains(&item) {
                    out.push(item);
                }
            }
        }
        given.then_some(out)
    }

    /// `limit`, never more than `max`.
    pub fn limit(&self, max: u32) -> Result<u32, Fault> {
        match self.get("limit") {
            None => Ok(max),
            Some(v) => {
                let digits = v.trim().trim_start_matches('+');
                let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                match digits.parse::<u32>() {
                    Ok(n) if whole && n > 0 => Ok(n.min(max)),
                    // More than any number that fits.
                    Err(_) if whole => Ok(max),
                    _ => Err(Fault::invalid(format!("Limit must be a positive number, not \"{v}\"."))),
                }
            }
        }
    }

    /// `sort_dir`: whether from high to low.
    pub fn descending(&self) -> Result<bool, Fault> {
        match self.get("sort_dir") {
            None | Some("asc") => Ok(false),
            Some("desc") => Ok(true),
            Some(v) => Err(Fault::invalid(format!("Invalid sort direction \"{v}\": use asc or desc."))),
        }
    }
}

/// Which fields an answer shows.
pub(crate) struct Shown<F> {
    /// The fields.
    pub set: FieldSet<F>,
    /// Their names for the link to the next page; `None` when all are shown.
    pub named: Option<Vec<String>>,
    /// `detail`, when it was given.
    pub detail: Option<bool>,
}

/// Which fields a list shows: those asked for, all, or a short list.
///
/// # Errors
/// `fields` with `detail`, either below its microversion, unknown or too new fields.
pub(crate) fn shown_in_list<F: FieldTable>(query: &Query, version: Version, short: &[F]) -> Result<Shown<F>, Fault> {
    let detail = query.bool("detail")?;
    let shown = shown(query, version)?;
    if detail.is_some() && !version.has(Behaviour::DetailQuery) {
        return Err(Fault::invalid("The query parameter \"detail\" needs a newer API version."));
    }
    match (shown, detail) {
        (Some(_), Some(true)) => Err(Fault::invalid("A subset of fields cannot be fetched with \"detail\".")),
        (Some((set, named)), _) => Ok(Shown { set: set.and(version.listed()), named: Some(named), detail }),
        (None, Some(true)) => Ok(Shown { set: version.listed(), named: None, detail }),
        (None, _) => {
            let names = short.iter().map(|f| f.name().to_owned()).filter(|n| n != "links").collect();
            Ok(Shown { set: version.visible_of(short), named: Some(names), detail })
        }
    }
}

/// Fields asked for by name, and the names.
pub(crate) type Selected<F> = (FieldSet<F>, Vec<String>);

/// The fields asked for; `None` when none were.
pub(crate) fn shown<F: FieldTable>(query: &Query, version: Version) -> Result<Option<Selected<F>>, Fault> {
    let Some(names) = query.list("fields") else { return Ok(None) };
    if !version.has(Behaviour::FieldsSelector) {
        return Err(Fault::new(FaultKind::NotAcceptable, "The query parameter \"fields\" needs a newer API version."));
    }
    Ok(Some((version.selected(&names)?, names)))
}

/// A UUID: hyphens, braces around it and the prefix of its URN may be there or not, as in the contract.
pub(crate) fn parse_uuid(s: &str) -> Option<Uuid> {
    // The longest form is a URN in braces; what is longer is not worth the look.
    if !(32..=64).contains(&s.len()) {
        return None;
    }
    let bare = s.replace("urn:", "").replace("uuid:", "");
    let digits: String = bare.trim_matches(['{', '}']).chars().filter(|c| *c != '-').collect();
    if digits.len() == 32 { Uuid::try_parse(&digits).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(s: &str) -> Query {
        Query::parse(Some(s)).expect("parses")
    }

    #[test]
    fn lists_join_trim_and_drop_repeats() {
        assert_eq!(q("fields=UUID,name%20&fields=name,uuid").list("fields"), Some(vec!["uuid".into(), "name".into()]));
        assert_eq!(q("fields=").list("fields"), Some(vec![]));
        assert_eq!(q("").list("fields"), None);
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert!(q("=x").only(&["limit"]).is_err());
        assert!(q("limit=2&limit=3").only(&["limit"]).is_err());
        assert!(q("fields=a&fields=b").only(&["fields"]).is_ok());
        assert!(Query::parse(Some("a=%ff")).is_err());
    }

    #[test]
    fn a_uuid_is_read_with_and_without_its_ornaments() {
        let id = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
        for good in [id.to_owned(), id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}")] {
            assert_eq!(parse_uuid(&good).map(|u| u.to_string()).as_deref(), Some(id), "{good}");
        }
        for bad in ["", "1be26c0b", &format!("{id}0"), &format!(" {id}"), &id.replace('1', "g"), &id.replace('-', "_")] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }

    #[test]
    fn limits_are_positive_and_capped() {
        assert_eq!(q("").limit(1000), Ok(1000));
        assert_eq!(q("limit=99999999999999999999").limit(1000), Ok(1000));
        assert_eq!(q("limit=%202").limit(1000), Ok(2));
        for bad in ["limit=0", "limit=00", "limit=+", "limit=-1", "limit=", "limit=1.5", "limit=abc"] {
            assert!(q(bad).limit(1000).is_err(), "{bad}");
        }
    }
}
