-- What people have told a server about meters and subjects. Times are microseconds since
-- 1970-01-01T00:00:00Z.

CREATE TABLE meters (
    id TEXT NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    event_type TEXT NOT NULL,
    aggregation TEXT NOT NULL,
    value_property TEXT,
    -- JSON.
    group_by TEXT NOT NULL,
    metadata TEXT,
    event_from INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) WITHOUT ROWID;

CREATE UNIQUE INDEX meters_by_slug ON meters (slug) WHERE deleted_at IS NULL;

CREATE TABLE subjects (
    key TEXT NOT NULL PRIMARY KEY,
    display_name TEXT,
    -- JSON.
    metadata TEXT,
    stripe_customer_id TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

PRAGMA user_version = 1;
