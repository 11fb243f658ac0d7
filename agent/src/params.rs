//! Settings of the agent: the kernel command line, and the parameter file of virtual media.
//!
//! Unknown parameters are ignored (the kernel and other programs own them); a value that cannot be read
//! keeps its default and is reported, because a machine in a rack cannot be asked again.

use crate::secret::Token;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// Longest parameter text that is looked at.
const MAX_TEXT: usize = 64 * 1024;

/// Parameters as given, names with dashes in lower case where they are the agent's own.
#[derive(Clone, Default)]
pub struct Params(HashMap<String, String>);

impl Params {
    /// Reads a command line: words, with `"` around whole words or values as the kernel does it.
    /// A word without `=` is a parameter with an empty value. The last of equal names wins.
    pub fn parse(text: &str) -> Self {
        let mut params = Self::default();
        let mut word = String::new();
        let mut quoted = false;
        let mut any = false;
        for c in text.chars().take(MAX_TEXT).chain(" ".chars()) {
            match c {
                '"' => {
                    quoted = !quoted;
                    any = true;
                }
                c if c.is_whitespace() && !quoted => {
                    if any {
                        params.insert_word(&word);
                    }
                    word.clear();
                    any = false;
                }
                c => {
                    word.push(c);
                    any = true;
                }
            }
        }
        if !word.is_empty() {
            params.insert_word(&word); // an unfinished quote
        }
        params
    }

    fn insert_word(&mut self, word: &str) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        self.insert(name, value);
    }

    /// Sets one parameter.
    pub fn insert(&mut self, name: &str, value: &str) {
        let own = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("ipa-") || start.eq_ignore_ascii_case("ipa_"));
        let name = if own { name.to_ascii_lowercase().replace('_', "-") } else { name.to_owned() };
        self.0.insert(name, value.to_owned());
    }

    /// Takes over all parameters of `other`; they win over present ones.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// A parameter's value, none when absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        match self.0.get(name).map(|value| value.to_ascii_lowercase()) {
            None => default,
            Some(value) => match value.as_str() {
                "" | "1" | "t" | "true" | "on" | "y" | "yes" => true,
                "0" | "f" | "false" | "off" | "n" | "no" => false,
                _ => {
                    tracing::warn!("parameter {name}={value} is no truth value, using {default}");
                    default
                }
            },
        }
    }

    fn number<T: std::str::FromStr + std::fmt::Display>(&self, name: &str, default: T) -> T {
        match self.get(name).map(str::parse) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(_)) => {
                tracing::warn!("parameter {name} is no number, using {default}");
                default
            }
        }
    }

    fn seconds(&self, name: &str, default: f64) -> Duration {
        Duration::try_from_secs_f64(self.number(name, default)).unwrap_or_else(|_| {
            tracing::warn!("parameter {name} is no length of time, using {default} s");
            Duration::from_secs_f64(default)
        })
    }

    /// URLs without their last slash. Anything that is no URL is left out with a word about it.
    fn urls(&self, name: &str) -> Vec<String> {
        let (good, bad): (Vec<String>, Vec<String>) =
            self.list(name).into_iter().partition(|url| url.starts_with("http://") || url.starts_with("https://"));
        for url in bad {
            tracing::error!("{name}: {url} is no http or https URL (discovery by mdns is not built) and is ignored");
        }
        good.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let words = self.get(name).unwrap_or_default().split(',');
        words.map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }
}

/// What happens when a command asks to power off or to reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerMode {
    /// Process 1 is asked to do it.
    Real,
    /// It is only noted (`--no-power`).
    Recorded,
}

/// How image downloads behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Longest wait for a connection and for the next bytes.
    pub timeout: Duration,
    /// Tries after the first one.
    pub retries: u32,
    /// Pause between tries.
    pub retry_interval: Duration,
    /// Longest download in all; none is unbounded.
    pub max_duration: Option<Duration>,
}

/// All settings of a running agent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Base URLs of the bare-metal API, in order of trial.
    pub api_urls: Vec<String>,
    /// Where the inspection report is posted.
    pub inspection_urls: Vec<String>,
    /// Inspection collectors in order.
    pub collectors: Vec<String>,
    /// MAC of the interface that the firmware booted from, lower case with colons.
    pub boot_mac: Option<String>,
    /// Token given in advance.
    pub token: Option<Token>,
    /// Debug lines in the log.
    pub debug: bool,
    /// How long one round of lookups lasts.
    pub lookup_timeout: Duration,
    /// First pause between lookups.
    pub lookup_interval: Duration,
    /// Do not verify certificates of servers.
    pub insecure: bool,
    /// Sent with each API request.
    pub global_request_id: Option<String>,
    /// Address the command API listens on.
    pub listen_host: Option<String>,
    /// Port it listens on.
    pub listen_port: u16,
    /// Address it is reached at, when not that of the route to the API.
    pub advertise_host: Option<String>,
    /// Port it is reached at.
    pub advertise_port: u16,
    /// `http` or `https`, when not decided by TLS.
    pub advertise_protocol: Option<String>,
    /// Interface whose address is advertised.
    pub network_interface: Option<String>,
    /// Longest wait for an address before inspection; zero does not wait.
    pub dhcp_wait: Duration,
    /// Wait for an address on each interface with carrier.
    pub dhcp_all_interfaces: bool,
    /// How long to listen for LLDP.
    pub lldp_timeout: Duration,
    /// LLDP within the inventory.
    pub collect_lldp: bool,
    /// Wait before the hardware is looked at.
    pub hardware_delay: Duration,
    /// Looks for a disk before giving up.
    pub disk_wait_attempts: u32,
    /// Pause between the looks.
    pub disk_wait_delay: Duration,
    /// Image downloads.
    pub download: Download,
    /// Fixed microversion (minor number).
    pub api_minor: Option<u32>,
    /// Longest API request.
    pub http_timeout: Duration,
    /// A boot loader that cannot be installed is no failure.
    pub ignore_bootloader_failure: bool,
    /// Refuse to erase cluster file systems.
    pub guard_special_filesystems: bool,
    /// Priority of the `inject_files` deploy step, zero when not to be run.
    pub inject_files_priority: i64,
    /// Curve of the agent's own certificate is P-384 rather than P-256.
    pub curve_p384: bool,
    /// TLS 1.3 only.
    pub tls13_only: bool,
    /// Parameters come from virtual media.
    pub virtual_media: bool,

    /// TLS on the command API (tests may switch it off).
    pub tls: bool,
    /// Whether power commands are carried out.
    pub power: PowerMode,
    /// When not empty, no other block device is seen or touched (tests).
    pub only_disks: Vec<PathBuf>,
    /// Folder for the state that outlives a crash of the agent; none keeps it in memory only.
    pub state_dir: Option<PathBuf>,
    /// Root under which `proc` and `sys` are read.
    pub root: PathBuf,
}

impl Settings {
    /// Settings from parameters; everything has a default.
    pub fn from_params(p: &Params) -> Self {
        let listen_port = p.number("ipa-listen-port", 9999);
        let max_duration = p.seconds("ipa-image-download-max-duration", 0.0);
        let collectors = match p.list("ipa-inspection-collectors") {
            list if list.is_empty() => vec!["default".to_owned(), "logs".to_owned()],
            list => list,
        };
        Self {
            api_urls: p.urls("ipa-api-url"),
            inspection_urls: p.urls("ipa-inspection-callback-url"),
            collectors,
            boot_mac: p.get("BOOTIF").and_then(boot_mac),
            token: p.get("ipa-agent-token").map(Token::new),
            debug: p.flag("ipa-debug", false),
            lookup_timeout: p.seconds("ipa-lookup-timeout", 600.0),
            lookup_interval: p.seconds("ipa-lookup-interval", 1.0),
            insecure: p.flag("ipa-insecure", false),
            global_request_id: p
                .get("ipa-global-request-id")
                .filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_graphic()))
                .map(str::to_owned),
            listen_host: p.get("ipa-listen-host").map(str::to_owned),
            listen_port,
            advertise_host: p.get("ipa-advertise-host").map(str::to_owned),
            advertise_port: p.number("ipa-advertise-port", listen_port),
            advertise_protocol: p.get("ipa-advertise-protocol").map(str::to_owned),
            network_interface: p.get("ipa-network-interface").map(str::to_owned),
            dhcp_wait: p.seconds("ipa-inspection-dhcp-wait-timeout", 60.0),
            dhcp_all_interfaces: p.flag("ipa-inspection-dhcp-all-interfaces", false),
            lldp_timeout: p.seconds("ipa-lldp-timeout", 30.0),
            collect_lldp: p.flag("ipa-collect-lldp", false),
            hardware_delay: p.seconds("ipa-hardware-initialization-delay", 0.0),
            disk_wait_attempts: p.number("ipa-disk-wait-attempts", 10),
            disk_wait_delay: p.seconds("ipa-disk-wait-delay", 3.0),
            download: Download {
                timeout: p.seconds("ipa-image-download-connection-timeout", 60.0),
                retries: p.number("ipa-image-download-connection-retries", 9),
                retry_interval: p.seconds("ipa-image-download-connection-retry-interval", 10.0),
                max_duration: (!max_duration.is_zero()).then_some(max_duration),
            },
            api_minor: p.get("ipa-ironic-api-version").and_then(|v| v.strip_prefix("1.")?.parse().ok()),
            http_timeout: p.seconds("ipa-http-request-timeout", 30.0),
            ignore_bootloader_failure: p.flag("ipa-ignore-bootloader-failure", false),
            guard_special_filesystems: p.flag("ipa-guard-special-filesystems", true),
            inject_files_priority: p.number("ipa-inject-files-priority", 0),
            curve_p384: p.get("ipa-tls-certificate-curve").is_some_and(|curve| curve.ends_with("384r1") || curve.ends_with("384")),
            tls13_only: p.get("ipa-tls-min-version") == Some("1.3"),
            virtual_media: p.get("boot_method") == Some("vmedia"),
            tls: true,
            power: PowerMode::Real,
            only_disks: Vec::new(),
            state_dir: None,
            root: PathBuf::from("/"),
        }
    }
}

/// MAC from a `BOOTIF` value: `01-aa-bb-cc-dd-ee-ff` or a plain MAC with `-` or `:`.
fn boot_mac(value: &str) -> Option<String> {
    let octets: Vec<&str> = value.split(['-', ':']).collect();
    let octets = match octets.len() {
        6 => octets.as_slice(),
        7 => octets.get(1..)?,
        _ => return None,
    };
    let good = octets.iter().all(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()));
    good.then(|| octets.join(":").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::from_params(&Params::parse(text))
    }

    #[test]
    fn quoted_words_and_values_keep_their_spaces() {
        let p = Params::parse("quiet a=\"b c\" \"d=e f\" console=tty0 console=ttyS0\n");
        assert!(p.has("quiet"));
        assert_eq!(p.get("quiet"), None);
        assert_eq!(p.get("a"), Some("b c"));
        assert_eq!(p.get("d"), Some("e f"));
        assert_eq!(p.get("console"), Some("ttyS0"));
    }

    #[test]
    fn underscores_in_agent_parameters_are_dashes() {
        let s = settings("ipa_debug=1 ipa-api-url=http://a:6385/,http://b");
        assert!(s.debug);
        assert_eq!(s.api_urls, ["http://a:6385", "http://b"]);
    }

    #[test]
    fn what_is_no_url_is_left_out() {
        assert_eq!(settings("ipa-api-url=mdns,http://a:1,ftp://b").api_urls, ["http://a:1"]);
    }

    #[test]
    fn the_boot_interface_is_read_in_both_forms() {
        for text in ["BOOTIF=01-52-54-00-AA-00-01", "BOOTIF=52:54:00:aa:00:01"] {
            assert_eq!(settings(text).boot_mac.as_deref(), Some("52:54:00:aa:00:01"));
        }
        assert_eq!(settings("BOOTIF=nonsense").boot_mac, None);
        assert_eq!(settings("BOOTIF=\u{00e4}-\u{00e4}-00-00-00-00").boot_mac, None);
    }

    #[test]
    fn unreadable_values_keep_the_default() {
        let s = settings("ipa-lookup-timeout=soon ipa-listen-port=99999999 ipa-debug=perhaps ipa-lookup-interval=-1");
        assert_eq!(s.lookup_timeout, Duration::from_secs(600));
        assert_eq!(s.listen_port, 9999);
        assert!(!s.debug);
        assert_eq!(s.lookup_interval, Duration::from_secs(1));
    }

    #[test]
    fn the_token_never_shows_in_the_settings() {
        assert!(!format!("{:?}", settings("ipa-agent-token=hunter2hunter2")).contains("hunter2"));
    }
}
