-- Tables, sequences and functions of oncelog: what is remembered of keys, one function a verb.
--
-- May be run again at any time. Every name is qualified, so no search_path matters. Times are
-- milliseconds since the Unix epoch by this server's clock; 9223372036854775807 is "never".
-- Kinds of records: 1 begun, 2 released, 3 completed, 4 failed. Flags: 1 held when the lease runs
-- out, 2 kept from when it was first seen, 4 an outcome that is too long leaves its length and
-- digest, 8 prolonged since it was recorded.

DO $$
BEGIN
    IF to_regnamespace('oncelog') IS NULL THEN
        CREATE SCHEMA oncelog;
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS oncelog.migrations (
    number integer PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
);

-- Versions of all keys; never cached in a session, which would hand them out in another order.
CREATE SEQUENCE IF NOT EXISTS oncelog.versions AS bigint CACHE 1;

-- Counts times at which rows were removed: see oncelog.check_and_set.
CREATE SEQUENCE IF NOT EXISTS oncelog.removals AS bigint CACHE 1;
-- So that a value that is missing means that it may not be read.
SELECT nextval('oncelog.removals');

CREATE TABLE IF NOT EXISTS oncelog.namespaces (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name bytea NOT NULL UNIQUE,
    born bigint NOT NULL
);

-- The room left in each page takes the record that follows a begun one, beside it.
CREATE TABLE IF NOT EXISTS oncelog.records (
    version bigint NOT NULL,
    first_seen bigint NOT NULL,
    updated bigint NOT NULL,
    expires bigint NOT NULL,
    deadline bigint NOT NULL,
    space integer NOT NULL,
    -- expires in units of 65536 ms; NULL for never. Coarse, so that it seldom changes with a
    -- completion: as long as no indexed column does, no index is written.
    bucket integer,
    attempts integer NOT NULL,
    kind smallint NOT NULL,
    flags smallint NOT NULL,
    key bytea NOT NULL,
    lifetime bigint,
    outcome_ms bigint,
    fingerprint bytea,
    outcome bytea,
    outcome_bytes integer,
    digest bytea,
    PRIMARY KEY (space, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- An index takes keys of up to 2704 bytes; compressed ones would make that a matter of luck.
ALTER TABLE oncelog.records ALTER COLUMN key SET STORAGE PLAIN;

CREATE INDEX IF NOT EXISTS records_bucket ON oncelog.records (bucket) WHERE bucket IS NOT NULL;

-- Who wants to be told of a key: no more than a hint, so it may be lost in a crash.
CREATE UNLOGGED TABLE IF NOT EXISTS oncelog.waiters (
    space integer NOT NULL,
    key bytea NOT NULL,
    token text NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (space, key)
);

-- The time of the call, not of the transaction, which may have begun long before.
CREATE OR REPLACE FUNCTION oncelog.now_ms() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT floor(date_part('epoch', clock_timestamp()) * 1000)::bigint
$$;

CREATE OR REPLACE FUNCTION oncelog.ends(moment bigint, length bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN length IS NULL THEN 9223372036854775807 ELSE moment + length END
$$;

CREATE OR REPLACE FUNCTION oncelog.bucket_of(expires bigint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN expires <> 9223372036854775807 THEN (expires >> 16)::integer END
$$;

-- The number of a namespace and its birth; made where there is none.
CREATE OR REPLACE FUNCTION oncelog.namespace(p_name bytea, OUT id integer, OUT born bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    LOOP
        SELECT n.id, n.born INTO namespace.id, namespace.born
        FROM oncelog.namespaces n WHERE n.name = p_name;
        EXIT WHEN FOUND;
        INSERT INTO oncelog.namespaces (name, born) VALUES (p_name, oncelog.now_ms())
        ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

INSERT INTO oncelog.migrations (number) VALUES (1) ON CONFLICT DO NOTHING;
