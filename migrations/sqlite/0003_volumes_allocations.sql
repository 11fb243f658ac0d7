-- Volume connectors and targets, allocations. Written once for both engines: keep the two files alike.

CREATE TABLE IF NOT EXISTS volume_connectors (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    extra TEXT NOT NULL,
    type TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    UNIQUE (type, connector_id)
);
CREATE INDEX IF NOT EXISTS volume_connectors_node ON volume_connectors (node, seq);

-- properties without its secrets; these are sealed (empty = none), the key is not in the database.
CREATE TABLE IF NOT EXISTS volume_targets (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    extra TEXT NOT NULL,
    volume_type TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    boot_index BIGINT NOT NULL,
    properties TEXT NOT NULL,
    secrets BLOB NOT NULL,
    UNIQUE (node, boot_index)
);
CREATE INDEX IF NOT EXISTS volume_targets_node ON volume_targets (node, seq);

-- A request for a node, and the node that it got. task_epoch, task_host and fence say who looks for one, as for nodes.
CREATE TABLE IF NOT EXISTS allocations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    name TEXT UNIQUE,
    node TEXT UNIQUE REFERENCES nodes (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    last_error TEXT,
    resource_class TEXT,
    traits TEXT NOT NULL,
    candidates TEXT NOT NULL,
    extra TEXT NOT NULL,
    owner TEXT,
    task_epoch BIGINT,
    task_host TEXT,
    fence BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS allocations_open ON allocations (seq) WHERE state = 'allocating';

-- Since when and for what a task holds a node, told to those who find it held.
ALTER TABLE nodes ADD COLUMN task_since BIGINT;
ALTER TABLE nodes ADD COLUMN task_purpose TEXT;
