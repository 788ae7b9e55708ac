-- Who may send and see what. Times are microseconds since 1970-01-01T00:00:00Z.

-- Keys of programs. Of the secret there is only its SHA-256.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    -- Lists of texts, as JSON; NULL is all there are.
    scopes TEXT NOT NULL,
    sources TEXT,
    subjects TEXT,
    -- 1 of a key that names a payer by a signed token alone.
    signed_subjects INTEGER NOT NULL,
    requests_per_minute INTEGER,
    created_at INTEGER NOT NULL,
    -- The first moment at which it no longer holds.
    expires_at INTEGER,
    revoked_at INTEGER,
    -- The key that was made in the place of this one.
    successor TEXT
) WITHOUT ROWID;

-- What portal tokens are signed with; one, made with the first token.
CREATE TABLE portal_secrets (
    id INTEGER PRIMARY KEY,
    secret BLOB NOT NULL
);

-- Tokens of customers, by which each sees the usage of one subject.
CREATE TABLE portal_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL,
    -- Slugs, as JSON; NULL is all meters.
    meters TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) WITHOUT ROWID;

CREATE INDEX portal_tokens_by_subject ON portal_tokens (subject);

-- Codes in links, each of which is exchanged for its token once. Of a code there is only its SHA-256.
CREATE TABLE portal_codes (
    digest BLOB NOT NULL PRIMARY KEY,
    token TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Who has signed in to the pages with a key. Of what the browser shows there is only its SHA-256.
CREATE TABLE sessions (
    digest BLOB NOT NULL PRIMARY KEY,
    key TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

PRAGMA user_version = 1;
