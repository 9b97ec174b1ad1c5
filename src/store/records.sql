-- Version 1 of the store: one person's records and everything derived from them, with its lineage.
-- Each file like this is one migration and never changes once released; the next version is a new file.
-- Ids are never used twice (AUTOINCREMENT), so that a manifest can't come to mean another row.
-- Times are seconds since 1970, UTC.

-- What a person wrote (output), and what it was written for (input; empty where unknown).
CREATE TABLE records (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    input      TEXT NOT NULL,
    output     TEXT NOT NULL,
    source     TEXT,                      -- a path, "repo@commit"
    time       INTEGER NOT NULL,          -- when it was written; 0: unknown
    local_only INTEGER NOT NULL,          -- 1: never leaves the device
    digest     TEXT NOT NULL UNIQUE,      -- sha256 of user, kind, input, output
    added      INTEGER NOT NULL
) STRICT;
CREATE INDEX records_order ON records (user, kind, time, id);

-- Full-text search over both texts. The words live here, the texts in records. There are no triggers: SQLite 3.40
-- won't let one write to an FTS5 table unless it trusts the file's schema, so record.c and forget.c keep it in step.
CREATE VIRTUAL TABLE records_words USING fts5 (
    input, output, content = 'records', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);

-- What a teacher wrote, raw, so that a run can be replayed without it.
CREATE TABLE replies (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    teacher    TEXT NOT NULL,
    call_hash  TEXT NOT NULL,             -- sha256 of the call's exact body and number
    text       TEXT NOT NULL,
    finish     TEXT NOT NULL,             -- "stop", "length"
    time       INTEGER NOT NULL,
    tokens_in  INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    seconds    REAL NOT NULL,
    UNIQUE (user, call_hash)
) STRICT;

-- The records that a call quoted.
CREATE TABLE reply_sources (
    reply    INTEGER NOT NULL REFERENCES replies (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    record   INTEGER NOT NULL REFERENCES records (id),
    PRIMARY KEY (reply, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX reply_sources_record ON reply_sources (record);

-- Examples made from records, kept or dropped, with the rule that dropped them.
CREATE TABLE synthetic (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    user    TEXT NOT NULL,
    kind    TEXT NOT NULL,
    mode    TEXT NOT NULL,
    input   TEXT NOT NULL,
    output  TEXT NOT NULL,
    verdict TEXT NOT NULL,                -- "kept", or a rule's name
    teacher TEXT NOT NULL,
    reply   INTEGER REFERENCES replies (id) ON DELETE CASCADE,
    weight  REAL NOT NULL,
    nll     REAL,                         -- null: not measured
    z       REAL,
    digest  TEXT NOT NULL,                -- sha256 as in records
    added   INTEGER NOT NULL
) STRICT;
CREATE INDEX synthetic_order ON synthetic (user, kind, id);
CREATE INDEX synthetic_reply ON synthetic (reply);

-- The records that an example was made from; position 0 is its parent.
CREATE TABLE synthetic_sources (
    synthetic INTEGER NOT NULL REFERENCES synthetic (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    record    INTEGER NOT NULL REFERENCES records (id),
    PRIMARY KEY (synthetic, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX synthetic_sources_record ON synthetic_sources (record);

-- What the person agreed to, word for word.
CREATE TABLE consents (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    user     TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    share    TEXT NOT NULL,
    text     TEXT NOT NULL,
    time     INTEGER NOT NULL
) STRICT;
CREATE INDEX consents_order ON consents (user, endpoint, share, id);

-- The ledger of what left the device, written before it left.
CREATE TABLE egress (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    user     TEXT NOT NULL,
    consent  INTEGER REFERENCES consents (id),
    endpoint TEXT NOT NULL,
    bytes    INTEGER NOT NULL,
    sha256   TEXT NOT NULL,               -- of the bytes sent
    time     INTEGER NOT NULL
) STRICT;

-- Adapters of a (user, kind). At most one is active; a retired one is to be deleted or was.
CREATE TABLE adapters (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    user        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    path        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    base_sha256 TEXT NOT NULL,
    arm         TEXT NOT NULL,            -- "real", "real+syn"
    metrics     TEXT NOT NULL,            -- JSON: the gate's table
    state       TEXT NOT NULL CHECK (state IN ('active', 'kept', 'retired')),
    scale       REAL NOT NULL,
    time        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX adapters_active ON adapters (user, kind) WHERE state = 'active';

-- The rows that an adapter learned: a record's id, or minus a synthetic example's.
CREATE TABLE adapter_rows (
    adapter INTEGER NOT NULL REFERENCES adapters (id) ON DELETE CASCADE,
    row     INTEGER NOT NULL,
    digest  TEXT NOT NULL,
    PRIMARY KEY (adapter, row)
) STRICT, WITHOUT ROWID;

-- Every record that an adapter depends on: learned itself, or behind an example that was. Written at
-- installation, because the examples may be cleared long before the adapter goes.
CREATE TABLE adapter_sources (
    adapter INTEGER NOT NULL REFERENCES adapters (id) ON DELETE CASCADE,
    record  INTEGER NOT NULL,
    PRIMARY KEY (adapter, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX adapter_sources_record ON adapter_sources (record);

-- Settings and the state of jobs.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
