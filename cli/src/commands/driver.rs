//! `driver …`, `conductor …`, and calls of vendor interfaces.

use reqwest::Method;
use serde_json::Value;

use crate::args::other::{
    ConductorCommand, DriverCommand, DriverPassthruCommand, DriverPropertyCommand, DriverRaidCommand, OneDriver, PassthruCall,
};
use crate::client::Request;
use crate::error::CliError;
use crate::record::Record;
use crate::{fields, pairs, print};

use super::node_detail::joined;
use super::{Session, columns};

/// Does it.
pub async fn run(session: &Session, command: DriverCommand) -> Result<(), CliError> {
    match command {
        DriverCommand::List { kind, long, fields: named, output } => {
            let named = fields::named(&named);
            let mut request = Request::to(&["drivers"]).fields(&named);
            if let Some(kind) = kind {
                request = request.query("type", kind);
            }
            if long {
                request = request.query("detail", "True");
            }
            let mut rows: Vec<Record> = session.client.list(request, "drivers", None).await?.into_iter().map(joined).collect();
            print::sort(&mut rows, Some("name"))?;
            session.list(&columns(&named, long, fields::DRIVER_LONG, fields::DRIVER), &rows, &output)
        }
        DriverCommand::Show { driver, fields: named, output } => {
            let request = Request::to(&["drivers", &driver]).fields(&fields::named(&named));
            let driver = session.client.get(request).await?.without(&["links", "properties"]);
            session.show(&joined(driver).sorted(), &output)
        }
        DriverCommand::Property(DriverPropertyCommand::List(one)) => properties(session, one, &["properties"]).await,
        DriverCommand::Raid(DriverRaidCommand::Property(DriverPropertyCommand::List(one))) => {
            properties(session, one, &["raid", "logical_disk_properties"]).await
        }
        DriverCommand::Passthru(DriverPassthruCommand::List(one)) => {
            let found = session.client.get(Request::to(&["drivers", &one.driver, "vendor_passthru", "methods"])).await?;
            session.list(fields::PASSTHRU, &methods(found), &one.output)
        }
        DriverCommand::Passthru(DriverPassthruCommand::Call { driver, call: args }) => call(session, "drivers", &driver, args).await,
    }
}

async fn properties(session: &Session, one: OneDriver, rest: &[&str]) -> Result<(), CliError> {
    let path: Vec<&str> = ["drivers", one.driver.as_str()].into_iter().chain(rest.iter().copied()).collect();
    let found = session.client.get(Request::to(&path)).await?.sorted();
    let row = |(name, text): (String, Value)| Record(vec![("property".into(), name.into()), ("description".into(), text)]);
    let rows: Vec<Record> = found.0.into_iter().map(row).collect();
    session.list(&["property", "description"], &rows, &one.output)
}

/// Rows of the calls that a vendor interface offers.
pub fn methods(found: Record) -> Vec<Record> {
    let row = |(name, about): (String, Value)| {
        let mut row = Record(vec![("name".into(), name.into())]);
        if let Value::Object(members) = about {
            row.0.extend(members);
        }
        joined(row)
    };
    found.0.into_iter().map(row).collect()
}

/// Makes a call of a vendor interface and prints what comes back.
pub async fn call(session: &Session, kind: &str, ident: &str, args: PassthruCall) -> Result<(), CliError> {
    let body = Value::Object(pairs::object(&args.args)?);
    let method = Method::from_bytes(args.http_method.as_bytes()).map_err(|e| CliError::Usage(e.to_string()))?;
    let mut request = Request::to(&[kind, ident, "vendor_passthru", &args.method]);
    if method != Method::GET && method != Method::DELETE {
        request = request.body(&body);
    }
    let answer = session.client.call(method, request).await?;
    if answer.is_empty() {
        return Ok(());
    }
    match serde_json::from_slice::<Record>(&answer) {
        Ok(record) => session.show(&record, &args.output),
        Err(_) => session.print(&format!("{}\n", String::from_utf8_lossy(&answer).trim_end())),
    }
}

/// `conductor …`.
pub async fn run_conductor(session: &Session, command: ConductorCommand) -> Result<(), CliError> {
    match command {
        ConductorCommand::List { limit, marker, sort, long, fields: named, output } => {
            let named = fields::named(&named);
            let mut request = Request::to(&["conductors"]).fields(&named);
            if let Some(marker) = marker {
                request = request.query("marker", marker);
            }
            if long {
                request = request.query("detail", "True");
            }
            let mut rows = session.client.list(request, "conductors", limit).await?;
            print::sort(&mut rows, sort.as_deref())?;
            session.list(&columns(&named, long, fields::CONDUCTOR_LONG, fields::CONDUCTOR), &rows, &output)
        }
        ConductorCommand::Show { conductor, fields: named, output } => {
            let request = Request::to(&["conductors", &conductor]).fields(&fields::named(&named));
            session.show(&session.client.get(request).await?.without(&["links"]), &output)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_vendor_call_is_a_row_with_its_methods_joined() {
        let found: Record = serde_json::from_value(json!({"m": {"http_methods": ["GET", "POST"], "async": false}})).expect("a record");
        let rows = methods(found);
        assert_eq!(rows[0].text("name"), Some("m"));
        assert_eq!(rows[0].text("http_methods"), Some("GET, POST"));
    }
}
