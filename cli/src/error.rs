//! What can go wrong, told with the next step.

use std::path::PathBuf;
use std::time::Duration;

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not there, or not as it should be.
    #[error("{0}")]
    Failed(String),
    /// A file cannot be used.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The service cannot be reached.
    #[error("no answer from {url}: {why}\n{}", if why.contains("certificate") {
        "Give the service's certificate authority by --os-cacert FILE, or do without verification by --insecure."
    } else {
        "Is the service running there? Name another one by --os-endpoint or OS_ENDPOINT."
    })]
    Unreachable {
        /// Address of the service.
        url: String,
        /// What the network says.
        why: String,
    },
    /// The service refused a request.
    #[error("{}", .0)]
    Api(Box<ApiError>),
    /// The service answered something that is no answer of this API.
    #[error("{url} does not answer like a bare metal API: {why}\nDoes the endpoint name the service's root (as in http://HOST:6385)?")]
    NotTheApi {
        /// Address of the request.
        url: String,
        /// What was strange.
        why: String,
    },
    /// A node went elsewhere than it was sent.
    #[error("node {node} is in `{state}` instead of `{wanted}`: {why}\n{hint}")]
    WentWrong {
        /// The node.
        node: String,
        /// Where it is.
        state: String,
        /// Where it should be.
        wanted: String,
        /// Its last_error, or what is known instead.
        why: String,
        /// Next step.
        hint: String,
    },
    /// A node's state does not let it do what was asked.
    #[error("node {node} is in `{state}`, from where it cannot do that.\n{hint}")]
    WrongState {
        /// The node.
        node: String,
        /// Where it is.
        state: String,
        /// Next step.
        hint: String,
    },
    /// A wait took too long.
    #[error(
        "node {node} is still in `{state}` after {} s of waiting for `{wanted}`; the service goes on with it.\n\
         `baremetal node show {node} --fields provision_state last_error` tells where it is.",
        limit.as_secs()
    )]
    TooLong {
        /// The node.
        node: String,
        /// Where it is.
        state: String,
        /// Where it should be.
        wanted: String,
        /// The limit.
        limit: Duration,
    },
    /// Some of several nodes failed.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// HTTP status, when the service refused a request.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(error) => Some(error.status),
            _ => None,
        }
    }

    /// Failures of several things as one.
    pub fn gather(failures: Vec<Self>) -> Result<(), Self> {
        let mut failures = failures;
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures.iter().map(ToString::to_string).collect())),
        }
    }
}

/// A refused request.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The service's words.
    pub message: String,
    /// Id that the service's log has, too.
    pub request_id: Option<String>,
    /// First segment of the path below /v1: kind of thing.
    pub kind: String,
    /// Second segment: the thing.
    pub ident: String,
    /// A next step that is known better than by status and words.
    pub hint: Option<String>,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (HTTP {})", self.message.trim_end(), self.status)?;
        if let Some(id) = &self.request_id {
            write!(f, " (Request-ID: {id})")?;
        }
        if let Some(next) = self.next_step() {
            write!(f, "\n{next}")?;
        }
        Ok(())
    }
}

impl ApiError {
    /// Whether another operation holds the node: worth another try.
    pub fn is_locked(&self) -> bool {
        self.status == 409 && self.message.contains("locked")
    }

    fn next_step(&self) -> Option<String> {
        if self.hint.is_some() {
            return self.hint.clone();
        }
        let node = (self.kind == "nodes" && !self.ident.is_empty()).then_some(self.ident.as_str());
        let single = self.kind.trim_end_matches('s');
        Some(match (self.status, node) {
            (401, _) => "Give credentials: OS_AUTH_TYPE=http_basic with OS_USERNAME and OS_PASSWORD.".to_owned(),
            (404, _) if self.message.contains("could not be found") && !self.ident.is_empty() => {
                format!("`baremetal {single} list` shows what there is.")
            }
            (404, Some(node)) if self.message.to_lowercase().contains("inventory") => {
                format!("`baremetal node inspect {node} --wait` makes an inventory.")
            }
            (406, _) => "Leave out --os-baremetal-api-version and OS_BAREMETAL_API_VERSION to speak the newest version.".to_owned(),
            (409, Some(node)) if self.is_locked() => {
                format!("`baremetal node show {node} --fields reservation provision_state` shows who holds it; try again then.")
            }
            (409, None) if self.kind == "nodes" => {
                "`baremetal node show NODE` shows it; `baremetal node enroll` goes on with a node that exists.".to_owned()
            }
            (400, None) if self.kind == "nodes" && self.message.to_lowercase().contains("hardware type") => {
                "`baremetal driver list` shows the hardware types of this service.".to_owned()
            }
            (503, _) => "The service is busy; try again in a moment.".to_owned(),
            _ => return None,
        })
    }
}
