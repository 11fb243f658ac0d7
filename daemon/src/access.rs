//! Who may use the API, from the options: strategy, Keystone, policies, TLS.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use bessemer_clients::keystone::{Keystone, KeystoneConfig, Named};
use bessemer_model::secret::Secret;
use ironic_api::{Audit, AuthStrategy, CorsConfig, Policies, TokenAuth, TokenOptions};

use crate::{options::Options, tls};

const SECTION: &str = "keystone_authtoken";

/// How callers prove who they are.
///
/// # Errors
/// An unknown strategy, or `keystone` without what it needs.
pub fn strategy(o: &Options) -> Result<AuthStrategy> {
    let users = PathBuf::from(o.text("DEFAULT", "http_basic_auth_user_file"));
    AuthStrategy::from_option(&o.text("DEFAULT", "auth_strategy"), &users, || tokens(o)).context("[DEFAULT] auth_strategy")
}

fn tokens(o: &Options) -> Result<TokenAuth> {
    let keystone = Keystone::new(keystone_config(o)?)?;
    let options = TokenOptions {
        www_authenticate_uri: o.given(SECTION, "www_authenticate_uri").unwrap_or_else(|| keystone.base().to_string()),
        token_cache_time: o.seconds(SECTION, "token_cache_time"),
        token_cache_size: usize::try_from(o.int(SECTION, "token_cache_size")).unwrap_or(usize::MAX),
        service_token_roles: o.list(SECTION, "service_token_roles"),
        service_token_roles_required: o.flag(SECTION, "service_token_roles_required"),
    };
    Ok(TokenAuth::new(keystone, options))
}

fn keystone_config(o: &Options) -> Result<KeystoneConfig> {
    let needed = |key: &'static str| o.given(SECTION, key).ok_or_else(|| anyhow!("[{SECTION}] {key} is not set"));
    let domain = |name: &'static str, id: &'static str| match o.given(SECTION, name) {
        Some(n) => Named::Name(n),
        None => Named::Id(o.text(SECTION, id)),
    };
    let kind = o.text(SECTION, "auth_type");
    if kind != "password" {
        bail!("[{SECTION}] auth_type = '{kind}': only password is known");
    }
    Ok(KeystoneConfig {
        auth_url: needed("auth_url")?.parse().with_context(|| format!("[{SECTION}] auth_url"))?,
        username: needed("username")?,
        password: Secret::new(needed("password")?),
        user_domain: domain("user_domain_name", "user_domain_id"),
        project_name: needed("project_name")?,
        project_domain: domain("project_domain_name", "project_domain_id"),
        region: o.given(SECTION, "region_name"),
        ca_file: o.given(SECTION, "cafile").map(PathBuf::from),
        insecure: o.flag(SECTION, "insecure"),
        timeout: o.seconds(SECTION, "http_connect_timeout"),
        retries: u32::try_from(o.int(SECTION, "http_request_max_retries")).unwrap_or(2),
    })
}

/// Who may do what.
///
/// # Errors
/// A policy file that cannot be used.
pub fn policies(o: &Options) -> Result<Policies> {
    let policies = match o.given("oslo_policy", "policy_file") {
        Some(file) => Policies::from_file(&PathBuf::from(file)).context("[oslo_policy] policy_file")?,
        None => Policies::default(),
    };
    let elevated = o.flag("DEFAULT", "rbac_service_role_elevated_access");
    let project = o.given("DEFAULT", "rbac_service_project_name").filter(|_| elevated);
    Ok(policies.with_service_project(project).with_own_nodes(o.flag("api", "project_admin_can_manage_own_nodes")))
}

/// Certificate and key of the API; `None` when it does not speak TLS.
///
/// # Errors
/// TLS without its files.
pub fn tls_files(o: &Options) -> Result<Option<tls::Files>> {
    if !o.flag("api", "enable_ssl_api") {
        return Ok(None);
    }
    pair(o, "[api] enable_ssl_api", &["api", "ssl"]).map(Some)
}

/// Certificate and key from the first of `sections` that has them; `flag` is the option that asks for them.
///
/// # Errors
/// When no section has one of them.
pub fn pair(o: &Options, flag: &str, sections: &[&'static str]) -> Result<tls::Files> {
    let file = |key: &'static str| {
        let found = sections.iter().find_map(|s| o.given(s, key)).map(PathBuf::from);
        found.ok_or_else(|| anyhow!("{flag} is set, but [{}] {key} is not", sections.first().copied().unwrap_or_default()))
    };
    Ok(tls::Files { cert: file("cert_file")?, key: file("key_file")? })
}

/// Which pages browsers let use the API.
pub fn cors(o: &Options) -> CorsConfig {
    let usual = CorsConfig::default();
    let list = |key: &'static str, usual: Vec<String>| Some(o.list("cors", key)).filter(|l| !l.is_empty()).unwrap_or(usual);
    CorsConfig {
        allowed_origin: o.list("cors", "allowed_origin"),
        allow_credentials: o.flag("cors", "allow_credentials"),
        expose_headers: list("expose_headers", usual.expose_headers),
        max_age: o.int("cors", "max_age"),
        allow_methods: o.list("cors", "allow_methods"),
        allow_headers: list("allow_headers", usual.allow_headers),
    }
}

/// Where writing requests are noted.
///
/// # Errors
/// A file that cannot be written, or a method that is none.
pub fn audit(o: &Options) -> Result<Option<Audit>> {
    if !o.flag("audit", "enabled") {
        return Ok(None);
    }
    let audit = match o.given("audit", "log_file") {
        Some(file) => Audit::to_file(&PathBuf::from(&file)).with_context(|| format!("[audit] log_file {file}"))?,
        None => Audit::to_log(),
    };
    let methods = o.list("audit", "ignore_req_list").iter().map(|m| m.to_uppercase().parse()).collect::<Result<_, _>>();
    Ok(Some(audit.ignoring(methods.context("[audit] ignore_req_list")?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(set: &[&str]) -> Options {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        Options::read(None, std::iter::empty(), &set).expect("options")
    }

    #[test]
    fn keystone_names_the_option_that_it_misses() {
        let missing = |set: &[&str]| strategy(&options(set)).map(drop).map_err(|e| format!("{e:#}"));
        let e = missing(&["DEFAULT.auth_strategy=keystone"]).unwrap_err();
        assert!(e.contains("[keystone_authtoken] auth_url"), "{e}");
        let all = [
            "DEFAULT.auth_strategy=keystone",
            "keystone_authtoken.auth_url=http://127.0.0.1:5000",
            "keystone_authtoken.username=bessemer",
            "keystone_authtoken.password=secret",
        ];
        assert_eq!(missing(&all), Ok(()));
        let e = missing(&[&all[..], &["keystone_authtoken.auth_type=v3token"]].concat()).unwrap_err();
        assert!(e.contains("auth_type") && !e.contains("secret"), "{e}");
    }

    #[test]
    fn tls_names_the_file_that_it_misses() {
        assert!(tls_files(&options(&[])).unwrap().is_none());
        let e = tls_files(&options(&["api.enable_ssl_api=true", "ssl.cert_file=/c"])).unwrap_err().to_string();
        assert!(e.contains("[api] key_file"), "{e}");
        let f =
            tls_files(&options(&["api.enable_ssl_api=true", "ssl.cert_file=/c", "api.cert_file=/b", "ssl.key_file=/k"])).unwrap().unwrap();
        assert_eq!((f.cert, f.key), (PathBuf::from("/b"), PathBuf::from("/k")));
    }
}
