-- Nodes, their parts, conductors, flows, boot plans and leases.
-- Times are microseconds since 1970 UTC; ids, enums and JSON are TEXT. Written once for both engines: keep the two files alike.

CREATE TABLE IF NOT EXISTS nodes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    -- written by the API under a compare-and-set on revision
    name TEXT UNIQUE,
    driver TEXT NOT NULL,
    interfaces TEXT NOT NULL,
    driver_info TEXT NOT NULL,
    properties TEXT NOT NULL,
    extra TEXT NOT NULL,
    instance_info TEXT NOT NULL,
    instance_uuid TEXT UNIQUE,
    instance_name TEXT,
    chassis_uuid TEXT,
    resource_class TEXT,
    conductor_group TEXT NOT NULL,
    automated_clean BOOLEAN,
    protected BOOLEAN NOT NULL,
    protected_reason TEXT,
    owner TEXT,
    lessee TEXT,
    description TEXT,
    retired BOOLEAN NOT NULL,
    retired_reason TEXT,
    network_data TEXT NOT NULL,
    shard TEXT,
    parent_node TEXT,
    disable_power_off BOOLEAN,
    maintenance BOOLEAN NOT NULL,
    maintenance_reason TEXT,
    fault TEXT,
    target_raid_config TEXT NOT NULL,
    -- written by conductors under the fence of a claim
    provision_state TEXT NOT NULL,
    target_provision_state TEXT,
    provision_updated_at BIGINT,
    power_state TEXT,
    target_power_state TEXT,
    last_error TEXT,
    driver_internal_info TEXT NOT NULL,
    inspection_started_at BIGINT,
    inspection_finished_at BIGINT,
    boot_mode TEXT,
    secure_boot BOOLEAN,
    health TEXT,
    raid_config TEXT NOT NULL,
    console_enabled BOOLEAN NOT NULL,
    -- the claim itself
    task_epoch BIGINT,
    task_host TEXT,
    fence BIGINT NOT NULL DEFAULT 0,
    conductor_affinity TEXT
);
CREATE INDEX IF NOT EXISTS nodes_provision_state ON nodes (provision_state);
CREATE INDEX IF NOT EXISTS nodes_parent_node ON nodes (parent_node) WHERE parent_node IS NOT NULL;
CREATE INDEX IF NOT EXISTS nodes_shard ON nodes (shard) WHERE shard IS NOT NULL;

-- Sealed; the key is not in the database.
CREATE TABLE IF NOT EXISTS node_secrets (
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (node, kind)
);

CREATE TABLE IF NOT EXISTS node_traits (
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    trait TEXT NOT NULL,
    PRIMARY KEY (node, trait)
);

CREATE TABLE IF NOT EXISTS node_agents (
    node TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    doc TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS ports (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    address TEXT NOT NULL UNIQUE,
    name TEXT UNIQUE,
    extra TEXT NOT NULL,
    internal_info TEXT NOT NULL,
    local_link_connection TEXT NOT NULL,
    pxe_enabled BOOLEAN NOT NULL,
    portgroup TEXT,
    physical_network TEXT,
    is_smartnic BOOLEAN NOT NULL,
    description TEXT,
    vendor TEXT,
    category TEXT,
    available_for_dynamic_portgroup BOOLEAN NOT NULL
);
CREATE INDEX IF NOT EXISTS ports_node ON ports (node, seq);

CREATE TABLE IF NOT EXISTS conductors (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    hostname TEXT NOT NULL UNIQUE,
    conductor_group TEXT NOT NULL,
    drivers TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- What a node is doing. doc holds steps, position, phase and notes; request what the verb asked for, written once.
CREATE TABLE IF NOT EXISTS flows (
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    lane TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    aborting BOOLEAN NOT NULL,
    wake_at BIGINT,
    wakes BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    doc TEXT NOT NULL,
    request TEXT NOT NULL,
    PRIMARY KEY (node, lane)
);
CREATE INDEX IF NOT EXISTS flows_wake_at ON flows (wake_at) WHERE wake_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS flow_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    flow TEXT NOT NULL,
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    step TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS flow_log_node ON flow_log (node, seq);

CREATE TABLE IF NOT EXISTS node_history (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    severity TEXT NOT NULL,
    event TEXT NOT NULL,
    event_type TEXT NOT NULL,
    conductor TEXT,
    user_name TEXT,
    project TEXT,
    state TEXT,
    target_provision_state TEXT,
    duration_seconds DOUBLE PRECISION
);
CREATE INDEX IF NOT EXISTS node_history_node ON node_history (node, created_at, seq);

CREATE TABLE IF NOT EXISTS node_inventory (
    node TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    inventory TEXT NOT NULL,
    plugin_data TEXT NOT NULL
);

-- Outbox. xid orders readers on PostgreSQL, where seq is not the order of commits.
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    xid BIGINT NOT NULL DEFAULT 0,
    at BIGINT NOT NULL,
    node TEXT,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_xid ON events (xid, seq);

CREATE TABLE IF NOT EXISTS boot_plans (
    node TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    nonce TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS boot_plan_macs (
    mac TEXT NOT NULL PRIMARY KEY,
    node TEXT NOT NULL REFERENCES boot_plans (node) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS boot_plan_macs_node ON boot_plan_macs (node);

-- address is the IPv4 address as a number.
CREATE TABLE IF NOT EXISTS dhcp_leases (
    network TEXT NOT NULL,
    mac TEXT NOT NULL,
    address BIGINT NOT NULL,
    state TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (network, mac),
    UNIQUE (network, address)
);
