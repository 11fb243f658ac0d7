//! A chassis: a rack or an enclosure that nodes stand in.

use crate::{JsonMap, clock::Timestamp, ids::ChassisId};

/// A chassis as stored (`api.md` section 6).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 6, one to one")]
pub struct Chassis {
    pub id: ChassisId,
    pub seq: i64,
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
    pub description: Option<String>,
    pub extra: JsonMap,
}
