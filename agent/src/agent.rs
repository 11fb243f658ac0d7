//! What all parts of a running agent share: settings, token, node, commands, and the wish for a heartbeat.

use crate::command::Table;
use crate::params::Settings;
use crate::secret::Token;
use bessemer_agent_types::command::AgentStatus;
use bessemer_agent_types::lookup::{LookupConfig, LookupReply};
use bessemer_agent_types::{HIDDEN_TOKEN, MIN_TOKEN_LEN};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, watch};

/// Version of this program, as reported in heartbeats.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running agent.
pub struct Agent {
    /// Settings at start.
    pub settings: Settings,
    /// Commands of this boot.
    pub table: Arc<Table>,
    /// Wakes the heartbeat before its time.
    pub beat: Notify,
    /// True once the agent has left the network for good.
    pub left: watch::Sender<bool>,
    token: RwLock<Option<Token>>,
    node: RwLock<Value>,
    config: RwLock<Option<LookupConfig>>,
    power_log: Mutex<Vec<String>>,
    image_device: RwLock<Option<PathBuf>>,
    started: SystemTime,
}

/// What to do with the token of a lookup answer.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// Go on.
    Accepted,
    /// Somebody else holds this node's token: leave the network.
    Lockdown,
}

fn read<T: Clone>(lock: &RwLock<T>) -> T {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn write<T>(lock: &RwLock<T>, value: T) {
    *lock.write().unwrap_or_else(PoisonError::into_inner) = value;
}

impl Agent {
    /// An agent that has not yet looked itself up. Takes up the token and commands of a crashed predecessor.
    pub fn new(settings: Settings) -> Arc<Self> {
        let table = Table::open(settings.state_dir.as_deref());
        let stored = settings.state_dir.as_deref().and_then(|dir| fs::read_to_string(dir.join("token")).ok());
        let token = settings.token.clone().or_else(|| stored.map(Token::new));
        Arc::new(Self {
            settings,
            table,
            beat: Notify::new(),
            left: watch::channel(false).0,
            token: RwLock::new(token),
            node: RwLock::new(Value::Null),
            config: RwLock::new(None),
            power_log: Mutex::new(Vec::new()),
            image_device: RwLock::new(None),
            started: SystemTime::now(),
        })
    }

    /// The token, when one is known.
    pub fn token(&self) -> Option<Token> {
        read(&self.token)
    }

    /// The node as the last lookup showed it, or as a command brought it; null before.
    pub fn node(&self) -> Value {
        read(&self.node)
    }

    /// Remembers the node that a command brought.
    pub fn set_node(&self, node: Value) {
        write(&self.node, node);
    }

    /// Settings that the conductor gave at lookup.
    pub fn config(&self) -> Option<LookupConfig> {
        read(&self.config)
    }

    /// Takes over a lookup answer.
    pub fn accept(&self, reply: LookupReply) -> TokenVerdict {
        match reply.config.agent_token.as_deref() {
            None | Some("") => {}
            Some(HIDDEN_TOKEN) if self.token().is_some() => {}
            Some(HIDDEN_TOKEN) => return TokenVerdict::Lockdown,
            Some(token) if token.len() >= MIN_TOKEN_LEN => self.keep_token(Token::new(token)),
            Some(_) => tracing::warn!("the agent token is shorter than {MIN_TOKEN_LEN} characters and is not used"),
        }
        let mut config = reply.config;
        config.agent_token = None; // lives in one place only
        write(&self.node, serde_json::to_value(&reply.node).unwrap_or(Value::Null));
        write(&self.config, Some(config));
        TokenVerdict::Accepted
    }

    fn keep_token(&self, token: Token) {
        if let Some(dir) = &self.settings.state_dir {
            let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dir.join("token"));
            if let Err(e) = opened.and_then(|mut file| file.write_all(token.reveal().as_bytes())) {
                tracing::warn!("token not stored, a restarted agent will lock itself out: {e}");
            }
        }
        write(&self.token, Some(token));
    }

    /// The disk that this boot has written an image to.
    pub fn image_device(&self) -> Option<PathBuf> {
        read(&self.image_device)
    }

    /// Remembers the disk that an image was written to.
    pub fn set_image_device(&self, device: PathBuf) {
        write(&self.image_device, Some(device));
    }

    /// For `GET /v1/status`.
    pub fn status(&self) -> AgentStatus {
        let started_at = self.started.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        AgentStatus { started_at, version: VERSION.to_owned() }
    }

    /// Notes a power command that is not carried out.
    pub fn record_power(&self, what: &str) {
        self.power_log.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
    }

    /// Power commands that were noted.
    pub fn recorded_power(&self) -> Vec<String> {
        self.power_log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;
    use serde_json::json;

    fn agent(params: &str) -> Arc<Agent> {
        Agent::new(Settings::from_params(&Params::parse(params)))
    }

    fn reply(token: Option<&str>) -> LookupReply {
        serde_json::from_value(json!({"node": {"uuid": "u"}, "config": {"heartbeat_timeout": 300, "agent_token": token}})).unwrap()
    }

    #[test]
    fn the_first_lookup_brings_the_token() {
        let agent = agent("");
        let token = "t".repeat(43);
        assert_eq!(agent.accept(reply(Some(&token))), TokenVerdict::Accepted);
        assert!(agent.token().unwrap().matches(&token));
        assert_eq!(agent.accept(reply(Some(HIDDEN_TOKEN))), TokenVerdict::Accepted);
        assert!(agent.token().unwrap().matches(&token));
    }

    #[test]
    fn a_hidden_token_without_an_own_one_means_another_agent_has_the_node() {
        assert_eq!(agent("").accept(reply(Some(HIDDEN_TOKEN))), TokenVerdict::Lockdown);
        assert_eq!(agent("ipa-agent-token=abc").accept(reply(Some(HIDDEN_TOKEN))), TokenVerdict::Accepted);
    }

    #[test]
    fn a_short_token_is_not_used() {
        let agent = agent("");
        assert_eq!(agent.accept(reply(Some("short"))), TokenVerdict::Accepted);
        assert!(agent.token().is_none());
    }

    #[test]
    fn a_restarted_agent_has_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::from_params(&Params::parse(""));
        settings.state_dir = Some(dir.path().to_owned());
        let token = "t".repeat(43);
        Agent::new(settings.clone()).accept(reply(Some(&token)));
        let again = Agent::new(settings);
        assert_eq!(again.accept(reply(Some(HIDDEN_TOKEN))), TokenVerdict::Accepted);
        assert!(again.token().unwrap().matches(&token));
    }
}
