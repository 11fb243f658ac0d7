//! Settings of the Redfish side: the section `[redfish]` of the configuration, and limits of our own.

use std::time::Duration;

use crate::fence::EffectFence;

use super::endpoint::{AuthType, Verify};

/// What all Redfish clients of a process share.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// `connection_attempts`: tries of one request when the BMC cannot be reached or is busy.
    pub attempts: u32,
    /// `connection_retry_interval`: longest pause between two tries unless the BMC names its own (`Retry-After`).
    pub retry_interval: Duration,
    /// `connect_timeout`: for the TCP connection and the TLS handshake.
    pub connect_timeout: Duration,
    /// `read_timeout`: for the beginning of the answer, and again for each further piece of it.
    pub read_timeout: Duration,
    /// For one call with all its retries. A dead BMC costs no more than this.
    pub deadline: Duration,
    /// Requests under way at once to one BMC.
    pub per_bmc: usize,
    /// `connection_cache_size`: (BMC, credential) pairs that are remembered, sessions included.
    pub cache_size: usize,
    /// `auth_type`: for nodes without `redfish_auth_type`.
    pub auth_type: AuthType,
    /// `verify_ca`: for nodes without `redfish_verify_ca`.
    pub verify_ca: Verify,
    /// Largest answer that is read, in bytes.
    pub max_body: usize,
    /// How long refused credentials are not tried again (BMCs lock accounts after a few wrong passwords).
    pub refused_hold: Duration,
    /// `post_boot_retry_attempts`: tries of a boot setting while the machine is in its power-on self test.
    pub post_boot_attempts: u32,
    /// `post_boot_retry_delay`: first pause between them; doubles each time.
    pub post_boot_delay: Duration,
    /// `power_on_conflict_retry_attempts`: tries of power on while the BMC says that it is still powering off.
    pub power_on_attempts: u32,
    /// `power_on_conflict_retry_interval`: pause between them.
    pub power_on_interval: Duration,
    /// Asked before each request that changes something.
    pub fence: EffectFence,
    /// Pause between two looks at a machine that takes over BIOS settings.
    pub settings_look: Duration,
    /// `firmware_update_status_interval`: pause between two looks at a firmware update.
    pub firmware_look: Duration,
    /// Pause between two looks at a state that is waited for (power, media, task).
    pub poll: Duration,
    /// How long a power state is waited for.
    pub power_wait: Duration,
    /// Pause between off and on of a reboot.
    pub reboot_pause: Duration,
    /// How long inserted or ejected media are waited for.
    pub media_wait: Duration,
    /// How long a task of the BMC is waited for when the caller does not say.
    pub task_wait: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            attempts: 5,
            retry_interval: secs(4),
            connect_timeout: secs(30),
            read_timeout: secs(60),
            deadline: secs(120),
            per_bmc: 4,
            cache_size: 1000,
            auth_type: AuthType::Auto,
            verify_ca: Verify::System,
            max_body: 8 * 1024 * 1024,
            refused_hold: secs(60),
            post_boot_attempts: 6,
            post_boot_delay: secs(5),
            power_on_attempts: 6,
            power_on_interval: secs(10),
            fence: EffectFence::default(),
            settings_look: secs(15),
            firmware_look: secs(60),
            poll: secs(1),
            power_wait: secs(120),
            reboot_pause: secs(2),
            media_wait: secs(30),
            task_wait: secs(300),
        }
    }
}
