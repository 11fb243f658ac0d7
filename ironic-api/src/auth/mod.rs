//! Who calls (`security.md` section 1): nobody is asked, a file of users and bcrypt digests decides, or Keystone does.
//!
//! Passwords and tokens are never logged; what was verified is remembered by digest only.

mod basic;
mod keystone;

use std::{path::Path, sync::Arc};

use http::{HeaderMap, header};

pub use basic::BasicAuth;
pub use keystone::{TokenAuth, TokenOptions};

/// How callers prove who they are.
#[derive(Clone, Debug)]
pub enum AuthStrategy {
    /// Everybody may do everything.
    NoAuth,
    /// HTTP basic authentication against an Apache-style file.
    HttpBasic(BasicAuth),
    /// Tokens of Keystone; policies say who may do what.
    Keystone(Arc<TokenAuth>),
}

/// The strategy named is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("auth_strategy = \"{0}\" is not known; use \"keystone\", \"http_basic\" or \"noauth\"")]
pub struct UnknownStrategy(String);

impl AuthStrategy {
    /// The strategy that `auth_strategy` names; `users` is `http_basic_auth_user_file`, `keystone` makes the third.
    ///
    /// # Errors
    /// [`UnknownStrategy`], or what `keystone` fails with.
    pub fn from_option<E: From<UnknownStrategy>>(
        name: &str,
        users: &Path,
        keystone: impl FnOnce() -> Result<TokenAuth, E>,
    ) -> Result<Self, E> {
        match name {
            "noauth" => Ok(Self::NoAuth),
            "http_basic" => Ok(Self::HttpBasic(BasicAuth::new(users))),
            "keystone" => Ok(Self::Keystone(Arc::new(keystone()?))),
            other => Err(UnknownStrategy(other.to_owned()).into()),
        }
    }

    /// Whether policies are asked.
    pub(crate) const fn has_policies(&self) -> bool {
        matches!(self, Self::Keystone(_))
    }
}

/// Who called.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    pub user_domain_id: Option<String>,
    pub project_id: Option<String>,
    pub project_name: Option<String>,
    pub project_domain_id: Option<String>,
    pub domain_id: Option<String>,
    /// `all` or nothing.
    pub system_scope: Option<String>,
    pub roles: Vec<String>,
    /// Roles of the service that vouches for the caller.
    pub service_roles: Vec<String>,
    pub is_admin_project: bool,
    /// A public route: nobody was asked.
    pub public: bool,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            user_id: None,
            user_name: None,
            user_domain_id: None,
            project_id: None,
            project_name: None,
            project_domain_id: None,
            domain_id: None,
            system_scope: None,
            roles: vec![],
            service_roles: vec![],
            is_admin_project: true,
            public: false,
        }
    }
}

impl Caller {
    /// Somebody on a public route.
    pub fn public() -> Self {
        Self { public: true, ..Self::default() }
    }
}

/// Why a caller is refused.
#[derive(Debug)]
pub(crate) enum Denied {
    /// By the users file.
    Basic {
        message: &'static str,
        /// Whether the header made sense.
        parsable: bool,
    },
    /// By Keystone, or for want of a token; here tokens are had.
    Token { authenticate_at: String },
    /// Keystone cannot be asked.
    Unavailable,
}

/// The caller of a request.
pub(crate) async fn authenticate(strategy: &AuthStrategy, headers: &HeaderMap) -> Result<Caller, Denied> {
    match strategy {
        AuthStrategy::NoAuth => Ok(Caller::default()),
        AuthStrategy::HttpBasic(basic) => {
            let header = headers.get(header::AUTHORIZATION).ok_or(basic::denied("Authorization required"))?;
            let (user, password) = basic::parse(header.to_str().unwrap_or_default())?;
            basic.verify(user, password).await
        }
        AuthStrategy::Keystone(tokens) => tokens.caller(headers).await,
    }
}
