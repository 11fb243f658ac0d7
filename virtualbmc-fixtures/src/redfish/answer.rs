//! Answers: resources, errors and tasks in their Redfish form.

use serde_json::{Value, json};

/// What a request is answered with.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Option<Value>,
    /// Text instead of JSON.
    pub(super) text: Option<String>,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body), ..Self::default() }
    }
    pub(super) fn done() -> Self {
        Self { status: 204, ..Self::default() }
    }
    pub(super) fn not_found(path: &str) -> Self {
        Error::new(404, "ResourceMissingAtURI", format!("The resource at the URI {path} was not found.")).arg(path).list()
    }
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A Redfish error (DSP0266 clause 8.6).
#[derive(Debug, Clone)]
pub(super) struct Error {
    status: u16,
    id: String,
    text: String,
    args: Vec<String>,
    related: Vec<String>,
}

impl Error {
    pub(super) fn new(status: u16, id: &str, text: impl Into<String>) -> Self {
        Self { status, id: format!("Base.1.8.{id}"), text: text.into(), args: Vec::new(), related: Vec::new() }
    }
    pub(super) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }
    pub(super) fn about(mut self, property: &str) -> Self {
        self.related.push(format!("#/{property}"));
        self.args.push(property.to_owned());
        self
    }
    pub(super) fn list(self) -> Answer {
        self.render(false)
    }
    /// As an answer, with the extended information as one object where the profile wants that.
    pub(super) fn render(self, as_object: bool) -> Answer {
        let info = json!({
            "@odata.type": "#Message.v1_1_1.Message",
            "MessageId": self.id,
            "Message": self.text,
            "MessageArgs": self.args,
            "RelatedProperties": self.related,
            "Severity": "Critical",
            "Resolution": "None.",
        });
        let info = if as_object { info } else { json!([info]) };
        let body = json!({"error": {
            "code": "Base.1.8.GeneralError",
            "message": "A general error has occurred. See ExtendedInfo for more information.",
            "@Message.ExtendedInfo": info,
        }});
        Answer { status: self.status, body: Some(body), ..Answer::default() }
    }
}

/// `PropertyNotWritable`.
pub(super) fn not_writable(property: &str) -> Error {
    Error::new(400, "PropertyNotWritable", format!("The property {property} is a read only property and cannot be assigned a value."))
        .about(property)
}

/// `PropertyMissing`.
pub(super) fn missing(property: &str) -> Error {
    Error::new(400, "PropertyMissing", format!("The property {property} is a required property and must be included in the request."))
        .about(property)
}

/// `PropertyValueNotInList`.
pub(super) fn not_in_list(property: &str, value: &str) -> Error {
    Error::new(
        400,
        "PropertyValueNotInList",
        format!("The value {value} for the property {property} is not in the list of acceptable values."),
    )
    .arg(value)
    .about(property)
}

/// A refusal that says nothing.
pub(super) fn general() -> Error {
    Error::new(400, "GeneralError", "A general error has occurred.")
}
