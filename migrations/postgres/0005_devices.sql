-- What was read from a machine's firmware: settings and versions. Times are microseconds since 1970 UTC; allowable_values is JSON.

CREATE TABLE IF NOT EXISTS bios_settings (
    node TEXT COLLATE "C" NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    value TEXT COLLATE "C",
    attribute_type TEXT COLLATE "C",
    allowable_values TEXT COLLATE "C" NOT NULL,
    lower_bound BIGINT,
    upper_bound BIGINT,
    min_length BIGINT,
    max_length BIGINT,
    read_only BOOLEAN,
    reset_required BOOLEAN,
    is_unique BOOLEAN,
    PRIMARY KEY (node, name)
);

CREATE TABLE IF NOT EXISTS firmware_components (
    node TEXT COLLATE "C" NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    component TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    initial_version TEXT COLLATE "C" NOT NULL,
    current_version TEXT COLLATE "C",
    last_version_flashed TEXT COLLATE "C",
    vendor TEXT COLLATE "C",
    model TEXT COLLATE "C",
    serial_number TEXT COLLATE "C",
    PRIMARY KEY (node, component)
);
