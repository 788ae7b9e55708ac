-- What events cost. Older libraries may go on writing: they know nothing of these tables, and what
-- they insert is priced by whoever prices next.

-- The service tier, '' if it names none, of an event of which nothing but this and its columns decides
-- what it costs; NULL where its body has more of that, or an older library inserted it.
ALTER TABLE events ADD COLUMN plain_tier TEXT;

-- What events cost, by two books: 1 is money (`cost`), 2 is credits (`credits`). Amounts are whole
-- numbers of 1E-12 of the currency's unit ("picos").

-- Up to which place events have been looked at, each of which has a row of `costs` by then if it is of
-- a type that is priced.
CREATE TABLE price_books (
    book INTEGER PRIMARY KEY,
    through_place INTEGER NOT NULL
);

-- Each list of prices that events were priced with, and each time that events were priced again. A
-- version stays as it was once there is a later one of its book.
CREATE TABLE price_versions (
    version INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    time INTEGER NOT NULL,
    list_name TEXT NOT NULL,
    list_version TEXT NOT NULL
);

-- Prices that events were priced with, or why they have no price, as JSON.
CREATE TABLE price_cards (
    card INTEGER PRIMARY KEY,
    -- '' of what has no price; '*' of what costs nothing in any currency.
    currency TEXT NOT NULL,
    text TEXT NOT NULL UNIQUE
);

-- What each event costs, with what of it decided about that: a row is found by the place of its event.
CREATE TABLE costs (
    book INTEGER NOT NULL,
    place INTEGER NOT NULL,
    -- The version in which it was priced like this.
    version INTEGER NOT NULL,
    -- The version in which it was priced anew; NULL of what holds.
    superseded INTEGER,
    -- The same as in the event, so that sums need not look at events.
    time INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind INTEGER NOT NULL,
    card INTEGER NOT NULL,
    -- NULL if it has no price.
    picos INTEGER,
    calls INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    input_image INTEGER NOT NULL,
    input_video INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    output_image INTEGER NOT NULL,
    -- What else was charged, by its name, as JSON; NULL if nothing.
    others TEXT,
    PRIMARY KEY (book, place, version)
) WITHOUT ROWID;

-- What is rare, and in no sum.
CREATE INDEX costs_of_others ON costs (book, time) WHERE others IS NOT NULL;

-- Sums of what holds. Picos are added up in two parts, since a sum may be beyond 64 bits: times 2^32,
-- and the rest. A row with 0 events stands for none.

-- Up to which place rows are in a table of sums, which is never beyond the one in `price_books`: who asks
-- adds the rows behind it. 0 of what has no row here.
CREATE TABLE cost_places (
    book INTEGER NOT NULL,
    -- The table's name.
    sums TEXT NOT NULL,
    through_place INTEGER NOT NULL,
    PRIMARY KEY (book, sums)
) WITHOUT ROWID;

-- Months of UTC, for bills.
CREATE TABLE cost_months (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind INTEGER NOT NULL,
    card INTEGER NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    input_audio INTEGER NOT NULL,
    input_image INTEGER NOT NULL,
    input_video INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    output_audio INTEGER NOT NULL,
    output_image INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, subject, kind, card)
) WITHOUT ROWID;

-- Days of UTC, for questions that tell subjects apart and nothing else.
CREATE TABLE cost_subject_days (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    subject TEXT NOT NULL,
    currency TEXT NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, subject, currency)
) WITHOUT ROWID;

-- For questions that tell no subjects apart.
CREATE TABLE cost_kind_days (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    currency TEXT NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, kind, currency)
) WITHOUT ROWID;

-- The same in windows of 15 minutes.
CREATE TABLE cost_kind_quarters (
    book INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    currency TEXT NOT NULL,
    high INTEGER NOT NULL,
    low INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (book, window_start, kind, currency)
) WITHOUT ROWID;

PRAGMA user_version = 4;
