//! Reading ports (`api.md` section 4).

use std::fmt::Display;

use bessemer_db::{PortFilter, PortSort};
use bessemer_model::{
    JsonMap,
    fault::{Fault, FaultKind},
    ids::NodeId,
    port::{Mac, Port},
};
use serde::ser::SerializeMap;

use crate::{
