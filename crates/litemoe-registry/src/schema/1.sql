-- Times are seconds since 1970-01-01 UTC, days Julian day numbers, hashes lower-case hexadecimal digits.

CREATE TABLE apps (
    name TEXT PRIMARY KEY,
    -- JSON: "*" or an array of names.
    models TEXT NOT NULL,
    adapters TEXT NOT NULL,
    -- Limits: NULL is none.
    requests_per_minute INTEGER CHECK (requests_per_minute > 0),
    tokens_per_minute INTEGER CHECK (tokens_per_minute > 0),
    concurrency INTEGER CHECK (concurrency > 0),
    cache_bytes INTEGER CHECK (cache_bytes >= 0),
    tokens_per_day INTEGER CHECK (tokens_per_day > 0),
    weight INTEGER NOT NULL CHECK (weight > 0),
    priority TEXT NOT NULL CHECK (priority IN ('interactive', 'background')),
    created INTEGER NOT NULL,
    revoked INTEGER,
    -- Number of the latest claim of a job of this app, by which apps take turns.
    last_claim INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    app TEXT NOT NULL REFERENCES apps (name),
    secret_sha256 TEXT NOT NULL,
    created INTEGER NOT NULL,
    -- End of the grace period after a rotation.
    expires INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_of_app ON keys (app);

CREATE TABLE usage (
    app TEXT NOT NULL REFERENCES apps (name),
    day INTEGER NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 0),
    cached_tokens INTEGER NOT NULL CHECK (cached_tokens >= 0),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 0),
    PRIMARY KEY (app, day)
) STRICT, WITHOUT ROWID;

-- Numbers that are never given twice.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('generation', 0), ('claim', 0);

CREATE TABLE adapters (
    generation INTEGER PRIMARY KEY,
    -- NULL is shared.
    owner TEXT REFERENCES apps (name),
    name TEXT NOT NULL,
    foundation TEXT NOT NULL,
    plan TEXT,
    data TEXT,
    metrics TEXT,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    -- Random name of this content, which tells nothing of others.
    tag TEXT NOT NULL
) STRICT;
-- Names of apps are not empty.
CREATE UNIQUE INDEX adapter_names ON adapters (ifnull(owner, ''), name);

CREATE TABLE adapter_files (
    generation INTEGER NOT NULL REFERENCES adapters (generation) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (generation, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX adapter_contents ON adapter_files (sha256);

CREATE TABLE files (
    -- In the order of upload.
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    app TEXT NOT NULL REFERENCES apps (name),
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    sha256 TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;
CREATE INDEX files_of_app ON files (app, number);
CREATE INDEX file_contents ON files (sha256);

CREATE TABLE jobs (
    -- In the order of creation.
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    app TEXT NOT NULL REFERENCES apps (name),
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    spec TEXT,
    -- Times that it was claimed.
    attempts INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    adapter TEXT,
    error TEXT
) STRICT;
CREATE INDEX jobs_of_app ON jobs (app, number);
CREATE INDEX jobs_by_state ON jobs (state, app, number);

CREATE TABLE job_events (
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    created INTEGER NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('info', 'warn', 'error')),
    message TEXT NOT NULL,
    data TEXT,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
