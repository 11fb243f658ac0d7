-- Deploy templates, runbooks and inspection rules. Steps, conditions and actions are JSON lists: they are read and written as a whole.

CREATE TABLE IF NOT EXISTS deploy_templates (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    name TEXT NOT NULL UNIQUE,
    extra TEXT NOT NULL,
    steps TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS runbooks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    public BOOLEAN NOT NULL,
    owner TEXT,
    disable_ramdisk BOOLEAN NOT NULL,
    extra TEXT NOT NULL,
    steps TEXT NOT NULL,
    -- sorted, each once
    traits TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS inspection_rules (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT,
    priority BIGINT NOT NULL,
    description TEXT,
    phase TEXT,
    sensitive BOOLEAN NOT NULL,
    conditions TEXT NOT NULL,
    actions TEXT NOT NULL
);
