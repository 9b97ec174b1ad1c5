-- The ledger of the augmentation service, version 2: the same text for SQLite and PostgreSQL.
-- Times are milliseconds since 1970, spend is in millionths of a money unit.
CREATE TABLE ledger_version (version BIGINT NOT NULL);
INSERT INTO ledger_version (version) VALUES (2);

CREATE TABLE tenants (
    id              TEXT NOT NULL PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    active          BIGINT NOT NULL,
    created         BIGINT NOT NULL,
    day_requests    BIGINT NOT NULL,
    day_tokens      BIGINT NOT NULL,
    month_spend     BIGINT NOT NULL,
    minute_requests BIGINT NOT NULL,
    queued          BIGINT NOT NULL,
    served          BIGINT NOT NULL -- tokens had so far, with what is reserved; a newcomer starts at the least
);

-- A key is "plm_" id "_" secret; the hash is of the whole.
CREATE TABLE tenant_keys (
    id      TEXT NOT NULL PRIMARY KEY,
    tenant  TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    hash    TEXT NOT NULL,
    expires BIGINT NOT NULL -- 0: never
);
CREATE INDEX tenant_keys_tenant ON tenant_keys (tenant);

CREATE TABLE usage_days (
    tenant     TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    day        BIGINT NOT NULL, -- since 1970
    requests   BIGINT NOT NULL,
    calls      BIGINT NOT NULL,
    tokens_in  BIGINT NOT NULL,
    tokens_out BIGINT NOT NULL,
    spend      BIGINT NOT NULL,
    PRIMARY KEY (tenant, day)
);

CREATE TABLE jobs (
    id          TEXT NOT NULL PRIMARY KEY,
    tenant      TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    submit_key  TEXT NOT NULL, -- hash of the Idempotency-Key
    digest      TEXT NOT NULL, -- of the request, keyed like the bodies
    key_time    BIGINT NOT NULL,
    state       BIGINT NOT NULL, -- enum job_state
    created     BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    not_before  BIGINT NOT NULL,
    lease       BIGINT NOT NULL, -- until when; 0: nobody works at it
    worker      TEXT NOT NULL,
    fence       BIGINT NOT NULL, -- one more with each claim
    attempts    BIGINT NOT NULL, -- claims since the last new reply
    weight      BIGINT NOT NULL, -- expected tokens
    est_calls   BIGINT NOT NULL, -- what was foretold at the submission
    est_in      BIGINT NOT NULL,
    est_out     BIGINT NOT NULL,
    est_spend   BIGINT NOT NULL,
    reserved    BIGINT NOT NULL, -- of them, what is in tenants.served ahead of use
    calls_done  BIGINT NOT NULL,
    calls_total BIGINT NOT NULL,
    examples    BIGINT NOT NULL,
    tokens_in   BIGINT NOT NULL,
    tokens_out  BIGINT NOT NULL,
    spend       BIGINT NOT NULL,
    max_spend   BIGINT NOT NULL, -- the submission's cap; 0: none
    may_retry   BIGINT NOT NULL,
    error       TEXT NOT NULL,
    teacher     TEXT NOT NULL,
    request     BYTEA NOT NULL, -- sealed; empty when it is not needed any more
    result      BYTEA NOT NULL, -- sealed
    UNIQUE (tenant, submit_key)
);
CREATE INDEX jobs_state ON jobs (state, not_before);
CREATE INDEX jobs_expires ON jobs (expires);

CREATE TABLE replies (
    job        TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    call       TEXT NOT NULL, -- hash of the call, keyed like the bodies
    number     BIGINT NOT NULL,
    finish     TEXT NOT NULL,
    tokens_in  BIGINT NOT NULL,
    tokens_out BIGINT NOT NULL,
    body       BYTEA NOT NULL, -- sealed
    shared     TEXT NOT NULL,  -- hash of teacher and call, keyed for the tenant; '': of no use to other jobs
    PRIMARY KEY (job, call)
);
CREATE INDEX replies_shared ON replies (shared);
