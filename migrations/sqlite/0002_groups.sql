-- Chassis and port groups. Nothing could refer to either before, so that the columns are empty and are made anew as references.

CREATE TABLE chassis (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    description TEXT,
    extra TEXT NOT NULL
);

ALTER TABLE nodes DROP COLUMN chassis_uuid;
ALTER TABLE nodes ADD COLUMN chassis_uuid TEXT REFERENCES chassis (id);
CREATE INDEX nodes_chassis_uuid ON nodes (chassis_uuid) WHERE chassis_uuid IS NOT NULL;

CREATE TABLE portgroups (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    name TEXT UNIQUE,
    address TEXT UNIQUE,
    extra TEXT NOT NULL,
    internal_info TEXT NOT NULL,
    mode TEXT,
    properties TEXT NOT NULL,
    standalone_ports_supported BOOLEAN NOT NULL,
    physical_network TEXT,
    category TEXT,
    dynamic_portgroup BOOLEAN NOT NULL
);
CREATE INDEX portgroups_node ON portgroups (node, seq);

ALTER TABLE ports DROP COLUMN portgroup;
ALTER TABLE ports ADD COLUMN portgroup TEXT REFERENCES portgroups (id) ON DELETE SET NULL;
CREATE INDEX ports_portgroup ON ports (portgroup, seq) WHERE portgroup IS NOT NULL;

-- Clients may say that they do not know.
ALTER TABLE ports ADD COLUMN smart BOOLEAN;
UPDATE ports SET smart = is_smartnic;
ALTER TABLE ports DROP COLUMN is_smartnic;
ALTER TABLE ports RENAME COLUMN smart TO is_smartnic;
