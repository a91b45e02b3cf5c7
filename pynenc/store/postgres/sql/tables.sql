-- The tables of version 1. "@" stands for the schema; names in capitals for numbers of pynenc.core.status (see schema.py).
CREATE TABLE @app (num integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE SEQUENCE @submission;
-- One row for each invocation, from its submission to its purge. The wide values stand last.
CREATE TABLE @inv (
    seq bigint NOT NULL DEFAULT nextval('@submission'),
    priority float8 NOT NULL DEFAULT 0, rank float8 NOT NULL DEFAULT 0, boost bigint NOT NULL DEFAULT 0,
    created bigint NOT NULL, claimed bigint NOT NULL DEFAULT 0, started bigint NOT NULL DEFAULT 0, ended bigint NOT NULL DEFAULT 0,
    due bigint NOT NULL DEFAULT 0, expires bigint NOT NULL DEFAULT 0, result_ttl bigint NOT NULL DEFAULT 0, timeout bigint NOT NULL DEFAULT 0,
    app integer NOT NULL,
    attempt integer NOT NULL DEFAULT 0, retries integer NOT NULL DEFAULT 0, crashes integer NOT NULL DEFAULT 0,
    round integer NOT NULL DEFAULT 0, entries integer NOT NULL DEFAULT 0,
    signals integer NOT NULL DEFAULT 0,       -- how many came
    seen integer,                             -- how many a suspended row knew of, if it waits for more
    max_crashes integer NOT NULL DEFAULT 3, running_limit integer NOT NULL DEFAULT 1,
    status smallint NOT NULL DEFAULT 0, place smallint NOT NULL DEFAULT 0, back smallint NOT NULL DEFAULT 0,
    why smallint NOT NULL DEFAULT 0,          -- what a PARKED row stands behind: a key, a rate, or a task that nobody knows
    alone boolean NOT NULL DEFAULT false,     -- a suspect: to be run alone
    cancel boolean NOT NULL DEFAULT false,    -- somebody wants it cancelled while it is claimed, for "reason"
    special boolean NOT NULL DEFAULT false,   -- a claim must look at it
    drop_blocked boolean NOT NULL DEFAULT false,
    id text COLLATE "C" NOT NULL, task text COLLATE "C" NOT NULL, queue text COLLATE "C" NOT NULL,
    args_digest text NOT NULL DEFAULT '', reason text NOT NULL DEFAULT '',
    timer bigint,                             -- when a LATER or WAITING row must be looked at
    gone bigint,                              -- when retention removes it
    runner text COLLATE "C",
    held text COLLATE "C",                    -- the running key, while the row holds a place of it
    rated text COLLATE "C",                   -- the key of its rate, while the row is the head of the line
    behind text COLLATE "C",
    registration_key text COLLATE "C", running_key text COLLATE "C", cache_key text COLLATE "C",
    rate_key text COLLATE "C", rate_n integer, rate_period bigint,
    parent text COLLATE "C", workflow text COLLATE "C", workflow_type text, workflow_parent text,
    tags text[], blobs text[], progress bytea, args bytea, payload bytea,
    PRIMARY KEY (seq)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
-- Neither this nor the primary key begins with the app: a plan that knows nothing of the table must not think of reading all of an app.
CREATE UNIQUE INDEX inv_id ON @inv (id, app);
CREATE INDEX inv_plain ON @inv (app, queue, seq) WHERE place = P_READY AND rank = 0 AND boost = 0 AND NOT alone;
CREATE INDEX inv_ranked ON @inv (app, queue, rank DESC, boost DESC, seq) WHERE place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone;
CREATE INDEX inv_aged ON @inv (app, queue, seq) WHERE place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone;
CREATE INDEX inv_suspect ON @inv (app, queue, rank DESC, boost DESC, seq) WHERE place = P_READY AND alone;
CREATE INDEX inv_special ON @inv (app, queue) WHERE place = P_READY AND special;
CREATE INDEX inv_timer ON @inv (app, queue, timer) WHERE timer IS NOT NULL;
CREATE INDEX inv_parked ON @inv (app, behind, why, rank DESC, boost DESC, seq) WHERE place = P_PARKED;
CREATE INDEX inv_held ON @inv (app, held) WHERE held IS NOT NULL;
CREATE INDEX inv_rated ON @inv (app, rated) WHERE rated IS NOT NULL;
CREATE INDEX inv_owned ON @inv (app, runner, held) WHERE place = P_CLAIMED;
CREATE INDEX inv_gone ON @inv (app, gone) WHERE gone IS NOT NULL;
CREATE INDEX inv_cached ON @inv (app, cache_key, seq) WHERE cache_key IS NOT NULL AND status = S_SUCCESS;
CREATE INDEX inv_child ON @inv (app, parent) WHERE parent IS NOT NULL;
CREATE INDEX inv_member ON @inv (app, workflow) WHERE workflow IS NOT NULL;
CREATE TABLE @hist (
    app integer NOT NULL, seq bigint NOT NULL, n integer NOT NULL, status smallint NOT NULL, at bigint NOT NULL, runner text,
    attempt integer NOT NULL, round integer NOT NULL, reason text NOT NULL, payload bytea NOT NULL, PRIMARY KEY (seq, n)
);
CREATE TABLE @registration (app integer NOT NULL, key text COLLATE "C" NOT NULL, seq bigint NOT NULL, PRIMARY KEY (app, key));
CREATE TABLE @rate (app integer NOT NULL, key text COLLATE "C" NOT NULL, at bigint NOT NULL);
CREATE INDEX rate_at ON @rate (app, key, at);
-- Who waits for whom; "asleep": suspended, to be admitted when that is final.
CREATE TABLE @edge (
    app integer NOT NULL, waiter text COLLATE "C" NOT NULL, awaited text COLLATE "C" NOT NULL, asleep boolean NOT NULL DEFAULT false,
    PRIMARY KEY (app, waiter, awaited)
);
CREATE INDEX edge_awaited ON @edge (app, awaited);
CREATE INDEX edge_asleep ON @edge (app, awaited) WHERE asleep;
-- What is submitted when an invocation of "task" (empty: of any) becomes "status", called "label": a call without id, whose arguments are completed.
CREATE TABLE @reaction (
    app integer NOT NULL, status smallint NOT NULL, task text COLLATE "C" NOT NULL, owner text COLLATE "C" NOT NULL, n integer NOT NULL,
    label text NOT NULL, call json NOT NULL, args bytea NOT NULL, tail bytea NOT NULL, PRIMARY KEY (app, status, task, owner, n)
);
CREATE TABLE @runner (
    app integer NOT NULL, id text COLLATE "C" NOT NULL, grp text NOT NULL, supervised boolean NOT NULL, beat bytea NOT NULL,
    tasks text[] NOT NULL, death text, started bigint NOT NULL, seen bigint NOT NULL, boot text NOT NULL,
    since bigint NOT NULL, until bigint NOT NULL, lease bigint NOT NULL, PRIMARY KEY (app, id)
) WITH (fillfactor = 50);
CREATE TABLE @queue (app integer NOT NULL, name text COLLATE "C" NOT NULL, state text NOT NULL DEFAULT 'active', PRIMARY KEY (app, name));
CREATE TABLE @memo (app integer NOT NULL, scope text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, value bytea NOT NULL, PRIMARY KEY (app, scope, key));
CREATE TABLE @blob (app integer NOT NULL, key text COLLATE "C" NOT NULL, size bigint NOT NULL, seen bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (app, key));
CREATE TABLE @ref (app integer NOT NULL, key text COLLATE "C" NOT NULL, seq bigint NOT NULL, PRIMARY KEY (app, key, seq));
CREATE TABLE @lease (app integer NOT NULL, name text COLLATE "C" NOT NULL, owner text NOT NULL, boot text NOT NULL, until bigint NOT NULL, PRIMARY KEY (app, name));
-- Who is idle or waits for results; worth nothing after a crash.
CREATE UNLOGGED TABLE @board (app integer NOT NULL, id text NOT NULL, idle smallint NOT NULL, waits boolean NOT NULL, seen bigint NOT NULL, PRIMARY KEY (app, id))
    WITH (fillfactor = 50);
-- A call, arguments apart.
CREATE TYPE @call AS (
    n integer, id text, task text, queue text, priority float8, due bigint, expires bigint, registration_key text, running_key text, running_limit integer,
    drop_blocked boolean, rate_key text, rate_n integer, rate_period bigint, cache_key text, max_crashes integer, result_ttl bigint, timeout bigint,
    parent text, workflow text, workflow_type text, workflow_parent text, tags text[], blobs text[], args_digest text
);
-- What a claim answers with.
CREATE TYPE @claimed AS (
    id text, task text, attempt integer, args bytea, blobs text[], queue text, priority float8, retries integer, crashes integer, max_crashes integer,
    round integer, timeout bigint, created bigint, claimed bigint, parent text, workflow text, workflow_type text, workflow_parent text, tags text[],
    alone boolean, seq bigint, rank float8, boost bigint
);
