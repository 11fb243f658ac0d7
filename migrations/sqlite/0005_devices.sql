-- What was read from a machine's firmware: settings and versions. Times are microseconds since 1970 UTC; allowable_values is JSON.

CREATE TABLE IF NOT EXISTS bios_settings (
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    value TEXT,
    attribute_type TEXT,
    allowable_values TEXT NOT NULL,
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
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    component TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    initial_version TEXT NOT NULL,
    current_version TEXT,
    last_version_flashed TEXT,
    vendor TEXT,
    model TEXT,
    serial_number TEXT,
    PRIMARY KEY (node, component)
);
