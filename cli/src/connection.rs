//! Where the service is and how to speak to it: from options, environment and clouds.yaml, in this order.
//!
//! Only services without Keystone are reached: authentication types `none` and `http_basic`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_model::secret::Secret;
use serde_json::Value;
use url::Url;

use crate::args::ConnectionArgs;
use crate::error::CliError;
use crate::structured;

/// Everything that a connection needs.
#[derive(Debug)]
pub struct Settings {
    /// Root of the service.
    pub endpoint: Url,
    /// User and password of http_basic.
    pub basic: Option<(String, Secret<String>)>,
    /// Minor version that is asked for; `None` negotiates.
    pub version: Option<u16>,
    /// Limit of one request.
    pub timeout: Duration,
    /// Tries after the first one.
    pub max_retries: u32,
    /// Longest pause between tries.
    pub retry_interval: Duration,
    /// Tell each repeated try.
    pub verbose: bool,
    /// Tell each request.
    pub debug: bool,
    /// Say nothing but errors.
    pub quiet: bool,
    insecure: bool,
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    tls_min: Option<String>,
}

/// Where settings come from besides the command line; tests give their own.
pub struct Surroundings<'a> {
    /// Reads a variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Files that may hold clouds, the first that exists counts.
    pub clouds: Vec<PathBuf>,
}

impl Surroundings<'_> {
    /// Those of this process.
    pub fn of_process() -> Surroundings<'static> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut clouds = Vec::new();
        clouds.extend(variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from));
        clouds.push(PathBuf::from("clouds.yaml"));
        let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
        clouds.extend(config.map(|config| config.join("openstack/clouds.yaml")));
        clouds.push(PathBuf::from("/etc/openstack/clouds.yaml"));
        Surroundings { variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()), clouds }
    }
}

/// A cloud of clouds.yaml; empty when none was named.
struct Cloud(Value);

impl Cloud {
    fn text(&self, path: &[&str]) -> Option<String> {
        let value = path.iter().try_fold(&self.0, |value, name| value.get(name))?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn open(name: &str, files: &[PathBuf]) -> Result<Self, CliError> {
        let Some(file) = files.iter().find(|file| file.is_file()) else {
            let tried: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            return Err(CliError::Usage(format!("cloud `{name}` is asked for, but there is no clouds.yaml (tried {})", tried.join(", "))));
        };
        let clouds = structured::read(file)?;
        let cloud = clouds.get("clouds").and_then(|clouds| clouds.get(name)).cloned();
        let mut cloud = cloud.ok_or_else(|| CliError::File { path: file.clone(), what: format!("it has no cloud `{name}`") })?;
        let secrets = file.with_file_name("secure.yaml");
        if secrets.is_file() {
            let secrets = structured::read(&secrets)?;
            if let Some(more) = secrets.get("clouds").and_then(|clouds| clouds.get(name)) {
                merge(&mut cloud, more);
            }
        }
        Ok(Self(cloud))
    }
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

impl Settings {
    /// Works them out.
    pub fn resolve(args: &ConnectionArgs, surroundings: &Surroundings<'_>) -> Result<Self, CliError> {
        let variable = |name: &str| (surroundings.variable)(name);
        let cloud = args.os_cloud.clone().or_else(|| variable("OS_CLOUD"));
        let cloud = cloud.map_or(Ok(Cloud(Value::Null)), |name| Cloud::open(&name, &surroundings.clouds))?;

        let kind = args.os_auth_type.clone();
        let kind = kind.or_else(|| cloud.text(&["auth_type"])).or_else(|| variable("OS_AUTH_TYPE")).unwrap_or_else(|| "none".to_owned());
        let endpoint = args
            .os_endpoint_override
            .clone()
            .or_else(|| args.os_endpoint.clone())
            .or_else(|| cloud.text(&["baremetal_endpoint_override"]))
            .or_else(|| cloud.text(&["endpoint_override"]))
            .or_else(|| cloud.text(&["auth", "endpoint"]))
            .or_else(|| cloud.text(&["endpoint"]))
            .or_else(|| variable("OS_BAREMETAL_ENDPOINT_OVERRIDE"))
            .or_else(|| variable("OS_ENDPOINT_OVERRIDE"))
            .or_else(|| variable("OS_ENDPOINT"));
        let endpoint = endpoint.ok_or_else(|| {
            CliError::Usage(
                "where is the service? Name it by --os-endpoint http://HOST:6385, by OS_ENDPOINT, or by --os-cloud with a clouds.yaml"
                    .to_owned(),
            )
        })?;
        let basic = match kind.as_str() {
            "none" => None,
            "http_basic" => {
                let user = args.os_username.clone().or_else(|| cloud.text(&["auth", "username"])).or_else(|| variable("OS_USERNAME"));
                let password = args.os_password.clone().or_else(|| cloud.text(&["auth", "password"])).or_else(|| variable("OS_PASSWORD"));
                match (user, password) {
                    (Some(user), Some(password)) => Some((user, Secret::from(password))),
                    _ => return Err(CliError::Usage("http_basic needs OS_USERNAME and OS_PASSWORD".to_owned())),
                }
            }
            other => {
                return Err(CliError::Usage(format!(
                    "authentication type `{other}` is not built into this program; it speaks `none` and `http_basic`"
                )));
            }
        };
        let version = args
            .os_baremetal_api_version
            .clone()
            .or_else(|| variable("OS_BAREMETAL_API_VERSION"))
            .or_else(|| cloud.text(&["baremetal_default_microversion"]));
        let verify = cloud.0.get("verify").and_then(Value::as_bool).unwrap_or(true);
        Ok(Self {
            endpoint: root(&endpoint)?,
            basic,
            version: version.map_or(Ok(None), |text| minor(&text))?,
            timeout: Duration::from_secs(args.timeout.max(1)),
            max_retries: args.max_retries,
            retry_interval: Duration::from_secs(args.retry_interval),
            verbose: args.verbose > 0,
            debug: args.debug || args.verbose > 1,
            quiet: args.quiet,
            insecure: args.insecure || !verify,
            cacert: args.os_cacert.clone().or_else(|| cloud.text(&["cacert"]).or_else(|| variable("OS_CACERT")).map(PathBuf::from)),
            cert: args.os_cert.clone().or_else(|| cloud.text(&["cert"]).or_else(|| variable("OS_CERT")).map(PathBuf::from)),
            key: args.os_key.clone().or_else(|| cloud.text(&["key"]).or_else(|| variable("OS_KEY")).map(PathBuf::from)),
            tls_min: args.tls_min_version.clone().or_else(|| variable("OS_TLS_MIN_VERSION")).filter(|text| text != "None"),
        })
    }

    /// The HTTP client that these settings ask for.
    pub fn http_client(&self) -> Result<reqwest::Client, CliError> {
        // Fails only when another provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("bessemer-baremetal/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.timeout.min(Duration::from_secs(20)))
            .timeout(self.timeout);
        if self.insecure {
            http = http.tls_danger_accept_invalid_certs(true);
        }
        if let Some(file) = &self.cacert {
            let bad = |what: String| CliError::File { path: file.clone(), what };
            let pem = std::fs::read(file).map_err(|e| bad(e.to_string()))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| bad(format!("no certificates in PEM: {e}")))?;
            http = http.tls_certs_only(roots);
        }
        if let Some(file) = &self.cert {
            let mut pem = std::fs::read(file).map_err(|e| CliError::File { path: file.clone(), what: e.to_string() })?;
            if let Some(key) = &self.key {
                pem.push(b'\n');
                pem.extend(std::fs::read(key).map_err(|e| CliError::File { path: key.clone(), what: e.to_string() })?);
            }
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|e| CliError::File { path: file.clone(), what: format!("no certificate with its key in PEM: {e}") })?;
            http = http.identity(identity);
        }
        match self.tls_min.as_deref() {
            None => {}
            Some("1.2") => http = http.tls_version_min(reqwest::tls::Version::TLS_1_2),
            Some("1.3") => http = http.tls_version_min(reqwest::tls::Version::TLS_1_3),
            Some(other) => return Err(CliError::Usage(format!("TLS version `{other}` is neither 1.2 nor 1.3"))),
        }
        http.build().map_err(|e| CliError::Usage(format!("no HTTP client can be made with these options: {e}")))
    }
}

/// The service's root of an endpoint, which may name /v1, too.
fn root(endpoint: &str) -> Result<Url, CliError> {
    let bad = |why: String| CliError::Usage(format!("endpoint `{endpoint}`: {why} (it looks like http://HOST:6385)"));
    let mut url = Url::parse(endpoint).map_err(|e| bad(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(bad("only http and https are spoken".to_owned()));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(path.strip_suffix("/v1").unwrap_or(&path));
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// The minor version that is asked for; `None` for the newest.
fn minor(text: &str) -> Result<Option<u16>, CliError> {
    if matches!(text, "latest" | "1" | "") {
        return Ok(None);
    }
    let minor = text.strip_prefix("1.").and_then(|minor| minor.parse().ok());
    minor.map(Some).ok_or_else(|| CliError::Usage(format!("API version `{text}` is neither `latest` nor 1.N")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &ConnectionArgs, environment: &[(&str, &str)], clouds: &[PathBuf]) -> Result<Settings, CliError> {
        let variable = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(args, &Surroundings { variable: &variable, clouds: clouds.to_vec() })
    }

    #[test]
    fn an_option_precedes_the_environment() {
        let environment = [("OS_ENDPOINT", "http://one:6385/v1/"), ("OS_AUTH_TYPE", "none")];
        let settings = resolve(&ConnectionArgs::default(), &environment, &[]).expect("resolved");
        assert_eq!(settings.endpoint.as_str(), "http://one:6385/");
        let args = ConnectionArgs { os_endpoint: Some("http://two:1/baremetal".into()), ..Default::default() };
        assert_eq!(resolve(&args, &environment, &[]).expect("resolved").endpoint.as_str(), "http://two:1/baremetal");
    }

    #[test]
    fn a_cloud_gives_endpoint_and_credentials() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("clouds.yaml");
        std::fs::write(
            &file,
            "clouds:\n  lab:\n    auth_type: http_basic\n    auth:\n      endpoint: https://bm.example:6385\n      username: me\n    verify: false\n",
        )
        .expect("written");
        std::fs::write(folder.path().join("secure.yaml"), "clouds:\n  lab:\n    auth:\n      password: hunter2\n").expect("written");
        let args = ConnectionArgs { os_cloud: Some("lab".into()), ..Default::default() };
        let settings = resolve(&args, &[], std::slice::from_ref(&file)).expect("resolved");
        assert_eq!(settings.endpoint.as_str(), "https://bm.example:6385/");
        assert!(settings.insecure);
        let (user, password) = settings.basic.as_ref().expect("credentials");
        assert_eq!((user.as_str(), password.reveal().as_str()), ("me", "hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let args = ConnectionArgs { os_cloud: Some("nolab".into()), ..Default::default() };
        assert!(resolve(&args, &[], &[file]).expect_err("no such cloud").to_string().contains("nolab"));
    }

    #[test]
    fn what_cannot_be_spoken_is_said_before_anything_is_sent() {
        let args = |endpoint: &str| ConnectionArgs { os_endpoint: Some(endpoint.into()), ..Default::default() };
        assert!(resolve(&ConnectionArgs::default(), &[], &[]).expect_err("no endpoint").to_string().contains("OS_ENDPOINT"));
        assert!(resolve(&args("ftp://x"), &[], &[]).is_err());
        let error = resolve(&args("http://x"), &[("OS_AUTH_TYPE", "password")], &[]).expect_err("no Keystone");
        assert!(error.to_string().contains("http_basic"), "{error}");
        let version = |text: &str| ConnectionArgs { os_baremetal_api_version: Some(text.into()), ..args("http://x") };
        assert_eq!(resolve(&version("latest"), &[], &[]).expect("resolved").version, None);
        assert_eq!(resolve(&version("1.50"), &[], &[]).expect("resolved").version, Some(50));
        assert!(resolve(&version("2.0"), &[], &[]).is_err());
    }
}
