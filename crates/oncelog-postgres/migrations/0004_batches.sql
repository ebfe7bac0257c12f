-- check_and_set of many keys, in a fixed number of statements.
--
-- Rows are inserted in the order of their keys, and then those that were there already and are to
-- be claimed are locked in that order. Of two calls none waits for another that waits for it: who
-- is still inserting holds nothing but new rows, and who is locking waits for no new rows.

-- Answers the first row with item 0: how many items are new (version), and the time. Further rows
-- are those of items, from 1, that are not new, and with p_details those of new ones too. The keys
-- differ from each other, and are in their order.
CREATE OR REPLACE FUNCTION oncelog.check_and_set_many(
    p_space integer, p_born bigint, p_keys bytea[],
    p_outcomes bytea[], p_outcome_bytes integer[], p_digests bytea[],
    p_retention bigint, p_lifetime bigint, p_outcome_ms bigint, p_last_seen boolean,
    p_sent_at bigint, p_details boolean
) RETURNS TABLE (
    item bigint, verdict smallint, now bigint, version bigint, kind smallint,
    attempts integer, first_seen bigint, updated bigint, deadline bigint,
    expires bigint, flags smallint, fingerprint bytea, gone boolean,
    outcome_bytes integer, outcome bytea, digest bytea
) LANGUAGE plpgsql VOLATILE SET enable_seqscan TO off AS $$
#variable_conflict use_column
DECLARE
    moment bigint := oncelog.now_ms();
    until bigint := oncelog.ends(moment, p_lifetime);
    until_bucket integer := oncelog.bucket_of(until);
    -- A record that ends earlier is prolonged when it is seen.
    prolongs bigint := CASE WHEN p_last_seen THEN oncelog.ends(moment, p_retention) ELSE 0 END;
    -- What may have to be claimed.
    keys bytea[] := p_keys;
    outcomes bytea[] := p_outcomes;
    lengths integer[] := p_outcome_bytes;
    digests bytea[] := p_digests;
    fresh bytea[];
    due bytea[];
    removals bigint;
BEGIN
    IF p_sent_at < greatest(p_born, moment - p_retention) THEN
        item := 0;
        RETURN NEXT;
        RETURN QUERY SELECT i.item, a.* FROM (
            SELECT * FROM unnest(p_keys, p_outcomes, p_outcome_bytes, p_digests)
                WITH ORDINALITY AS u (key, outcome, outcome_bytes, digest, item)) AS i
            CROSS JOIN LATERAL oncelog.check_and_set(p_space, p_born, i.key, i.outcome,
                i.outcome_bytes, i.digest, p_retention, p_lifetime, p_outcome_ms, p_last_seen,
                p_sent_at) AS a;
        RETURN;
    END IF;
    -- Looking first saves a version, and with it a write, for each key that is known; and costs a
    -- third of the whole where none is. A few of them tell which it is.
    IF EXISTS (
        SELECT FROM unnest(p_keys[1:8]) AS i (key)
        JOIN oncelog.records r ON r.space = p_space AND r.key = i.key) THEN
        SELECT array_agg(c.key), array_agg(c.outcome), array_agg(c.outcome_bytes),
            array_agg(c.digest)
        INTO keys, outcomes, lengths, digests FROM (
            SELECT i.* FROM unnest(p_keys, p_outcomes, p_outcome_bytes, p_digests)
                AS i (key, outcome, outcome_bytes, digest)
            -- What stands is not touched.
            WHERE NOT EXISTS (
                SELECT FROM oncelog.records r
                WHERE r.space = p_space AND r.key = i.key AND r.expires > moment
                    AND ((r.kind >= 3 AND r.expires >= prolongs)
                        OR (r.kind = 1 AND (r.deadline > moment OR r.flags & 1 <> 0))))
            ORDER BY i.key) AS c;
    END IF;
    IF keys IS NOT NULL THEN
        removals := pg_sequence_last_value('oncelog.removals');
        WITH new AS (
            INSERT INTO oncelog.records AS r (space, key, version, kind, attempts, first_seen,
                updated, deadline, expires, bucket, flags, outcome_ms, outcome, outcome_bytes,
                digest)
            SELECT p_space, i.key, nextval('oncelog.versions'), 3, 0, moment, moment, 0, until,
                until_bucket, 0, p_outcome_ms, i.outcome, i.outcome_bytes, i.digest
            FROM unnest(keys, outcomes, lengths, digests)
                AS i (key, outcome, outcome_bytes, digest)
            ON CONFLICT DO NOTHING
            RETURNING r.key
        ) SELECT array_agg(n.key) INTO fresh FROM new n;
        IF (removals = pg_sequence_last_value('oncelog.removals')) IS NOT TRUE
            OR oncelog.now_ms() > moment + 1000 THEN
            PERFORM oncelog.restamp(p_space, k.key, moment, 0, 0, 0)
            FROM unnest(fresh) AS k (key);
        END IF;
    END IF;
    IF cardinality(keys) > coalesce(cardinality(fresh), 0) THEN
        SELECT array_agg(d.key) INTO due FROM (
            SELECT r.key FROM unnest(keys) AS i (key)
            JOIN oncelog.records r ON r.space = p_space AND r.key = i.key
            WHERE i.key NOT IN (SELECT unnest(fresh)) AND (
                r.expires <= moment OR r.kind = 2
                OR (r.kind = 1 AND r.deadline <= moment AND r.flags & 1 = 0)
                OR (r.kind >= 3 AND r.expires < prolongs))
            ORDER BY r.key FOR UPDATE OF r) AS d;
        IF due IS NOT NULL THEN
            fresh := fresh || oncelog.claim_many(p_space, due, keys, outcomes, lengths,
                digests, moment, until, p_outcome_ms);
        END IF;
    END IF;
    item := 0;
    now := moment;
    version := coalesce(cardinality(fresh), 0);
    RETURN NEXT;
    IF version = cardinality(p_keys) AND NOT p_details THEN
        RETURN;
    END IF;
    -- What was there before may be gone by now: that is asked for again.
    RETURN QUERY SELECT i.item,
        (CASE WHEN i.key IN (SELECT unnest(fresh)) THEN 0
            WHEN r.key IS NULL OR r.expires <= moment THEN 10
            WHEN r.kind >= 3 THEN 1
            WHEN r.kind = 1 AND moment < r.deadline THEN 2
            WHEN r.kind = 1 AND r.flags & 1 <> 0 THEN 4
            ELSE 10 END)::smallint,
        moment, r.version, r.kind, r.attempts, r.first_seen, r.updated, r.deadline, r.expires,
        r.flags, r.fingerprint, g.gone, coalesce(r.outcome_bytes, length(r.outcome)),
        CASE WHEN NOT g.gone THEN r.outcome END, r.digest
    FROM unnest(p_keys) WITH ORDINALITY AS i (key, item)
    LEFT JOIN oncelog.records r ON r.space = p_space AND r.key = i.key
    CROSS JOIN LATERAL (SELECT r.outcome IS NULL
        OR coalesce(r.updated + r.outcome_ms <= moment, false)) AS g (gone)
    WHERE p_details OR i.key NOT IN (SELECT unnest(fresh));
END
$$;

-- Records keys anew, or prolongs those whose outcome stands; all are locked. Those that are new.
CREATE OR REPLACE FUNCTION oncelog.claim_many(
    p_space integer, p_due bytea[], p_keys bytea[],
    p_outcomes bytea[], p_outcome_bytes integer[], p_digests bytea[],
    p_now bigint, p_until bigint, p_outcome_ms bigint
) RETURNS bytea[] LANGUAGE sql VOLATILE AS $$
    WITH prolonged AS (
        UPDATE oncelog.records r SET version = nextval('oncelog.versions'), expires = p_until,
            bucket = oncelog.bucket_of(p_until), flags = r.flags | 8
        FROM unnest(p_due) AS d (key)
        WHERE r.space = p_space AND r.key = d.key AND r.kind >= 3 AND r.expires > p_now
    ), claimed AS (
        UPDATE oncelog.records r SET version = nextval('oncelog.versions'), kind = 3,
            attempts = 0, first_seen = p_now, updated = p_now, deadline = 0,
            expires = CASE WHEN r.expires > p_now THEN greatest(r.expires, p_until)
                ELSE p_until END,
            bucket = oncelog.bucket_of(CASE WHEN r.expires > p_now
                THEN greatest(r.expires, p_until) ELSE p_until END),
            flags = 0, lifetime = NULL, outcome_ms = p_outcome_ms, fingerprint = NULL,
            outcome = i.outcome, outcome_bytes = i.outcome_bytes, digest = i.digest
        FROM unnest(p_keys, p_outcomes, p_outcome_bytes, p_digests)
            AS i (key, outcome, outcome_bytes, digest)
        WHERE i.key IN (SELECT unnest(p_due)) AND r.space = p_space AND r.key = i.key
            AND NOT (r.kind >= 3 AND r.expires > p_now)
        RETURNING r.key
    )
    SELECT array_agg(c.key) FROM claimed c
$$;

INSERT INTO oncelog.migrations (number) VALUES (4) ON CONFLICT DO NOTHING;
