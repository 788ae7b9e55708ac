-- Signatures. Older libraries may go on writing until somebody signs: from then on they are kept out,
-- since what they insert would be unsigned.

-- What was signed about the ledger as a whole: that signing begins, or goes on with another key
-- ('begin'), and that bodies may be given up ('prune'). Each is signed with the one before it.
CREATE TABLE seals (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    time INTEGER NOT NULL,
    -- The last event that there was, and its link; NULL where events are there that nobody has signed.
    place INTEGER NOT NULL,
    link BLOB,
    -- Of 'prune': bodies of events of before this may be gone.
    before INTEGER,
    key_id TEXT NOT NULL,
    mac BLOB NOT NULL
);

-- The signature of each event, over the one before it and all that the event's row says. A table of its
-- own: a column of `events` would have to be filled by a second write of each row.
CREATE TABLE links (
    place INTEGER PRIMARY KEY,
    mac BLOB NOT NULL,
    -- The SHA-256 of a body that was given up.
    body BLOB
);

PRAGMA user_version = 5;
