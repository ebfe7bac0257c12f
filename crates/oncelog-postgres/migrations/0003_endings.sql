-- The verbs that end, renew, settle, remove and sweep records, and that of waiting.

-- Tells those who wait for the key, with the transaction. Only if somebody does: sending makes
-- transactions commit one after another.
CREATE OR REPLACE FUNCTION oncelog.wake(p_space integer, p_key bytea) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_notify('oncelog', w.token) FROM oncelog.waiters w
    WHERE w.space = p_space AND w.key = p_key AND w.until > oncelog.now_ms();
END
$$;

-- Completes (kind 3), fails (4), releases (2) or renews (1) the lease with this version.
CREATE OR REPLACE FUNCTION oncelog.finish(
    p_space integer, p_key bytea, p_version bigint, p_kind smallint, p_length bigint,
    p_outcome bytea, p_outcome_bytes integer, p_digest bytea,
    OUT verdict smallint, OUT version bigint, OUT deadline bigint
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    now bigint := oncelog.now_ms();
    until bigint := CASE WHEN p_kind <= 2 THEN now + p_length ELSE 0 END;
    too_long boolean := p_kind >= 3 AND p_outcome IS NULL;
BEGIN
    UPDATE oncelog.records r SET
        kind = p_kind,
        version = CASE WHEN p_kind = 1 THEN r.version ELSE nextval('oncelog.versions') END,
        updated = now,
        deadline = until,
        -- At least as long as what was said before.
        expires = greatest(until, r.expires, oncelog.ends(
            CASE WHEN r.flags & 2 <> 0 THEN r.first_seen ELSE now END, r.lifetime)),
        bucket = oncelog.bucket_of(greatest(until, r.expires, oncelog.ends(
            CASE WHEN r.flags & 2 <> 0 THEN r.first_seen ELSE now END, r.lifetime))),
        outcome = p_outcome,
        outcome_bytes = CASE WHEN too_long OR r.outcome_ms IS NOT NULL THEN p_outcome_bytes END,
        digest = CASE WHEN too_long OR r.outcome_ms IS NOT NULL THEN p_digest END
    WHERE r.space = p_space AND r.key = p_key AND r.version = p_version AND r.kind = 1
        AND r.expires > now AND (r.flags & 4 <> 0 OR NOT too_long)
    RETURNING r.version, r.deadline INTO version, deadline;
    IF FOUND THEN
        verdict := 0;
        IF p_kind <> 1 THEN
            PERFORM oncelog.wake(p_space, p_key);
        END IF;
        RETURN;
    END IF;
    PERFORM 1 FROM oncelog.records r
    WHERE r.space = p_space AND r.key = p_key AND r.version = p_version AND r.kind = 1
        AND r.expires > now;
    verdict := CASE WHEN FOUND THEN 8 ELSE 7 END;
END
$$;

-- Completes a key that was begun and is held by nobody.
CREATE OR REPLACE FUNCTION oncelog.resolve(
    p_space integer, p_key bytea, p_outcome bytea, p_outcome_bytes integer, p_digest bytea,
    OUT verdict smallint, OUT version bigint, OUT deadline bigint
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    r oncelog.records;
    now bigint;
    until bigint;
    digested boolean;
BEGIN
    SELECT k.* INTO r FROM oncelog.records k
    WHERE k.space = p_space AND k.key = p_key FOR UPDATE;
    now := oncelog.now_ms();
    IF NOT FOUND OR r.expires <= now OR r.kind >= 3 THEN
        verdict := 9;
    ELSIF r.kind = 1 AND now < r.deadline THEN
        verdict := 2;
        deadline := r.deadline;
    ELSIF p_outcome IS NULL AND r.flags & 4 = 0 THEN
        verdict := 8;
    ELSE
        until := greatest(r.expires, oncelog.ends(
            CASE WHEN r.flags & 2 <> 0 THEN r.first_seen ELSE now END, r.lifetime));
        digested := p_outcome IS NULL OR r.outcome_ms IS NOT NULL;
        UPDATE oncelog.records k SET kind = 3, version = nextval('oncelog.versions'),
            updated = now, deadline = 0, expires = until, bucket = oncelog.bucket_of(until),
            outcome = p_outcome,
            outcome_bytes = CASE WHEN digested THEN p_outcome_bytes END,
            digest = CASE WHEN digested THEN p_digest END
        WHERE k.space = p_space AND k.key = p_key
        RETURNING k.version INTO version;
        PERFORM oncelog.wake(p_space, p_key);
        verdict := 0;
    END IF;
END
$$;

-- Forgets a key; with a version only if that is its record's.
CREATE OR REPLACE FUNCTION oncelog.remove(
    p_space integer, p_key bytea, p_version bigint,
    OUT verdict smallint, OUT version bigint, OUT deadline bigint
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    verdict := 9;
    PERFORM 1 FROM oncelog.records r
    WHERE r.space = p_space AND r.key = p_key AND r.expires > oncelog.now_ms()
        AND (p_version IS NULL OR r.version = p_version)
    FOR UPDATE;
    IF FOUND THEN
        -- After the row is locked and before it is gone.
        PERFORM nextval('oncelog.removals');
        DELETE FROM oncelog.records r WHERE r.space = p_space AND r.key = p_key;
        PERFORM oncelog.wake(p_space, p_key);
        verdict := 0;
    END IF;
END
$$;

-- Removes up to so many records whose time was over a minute ago, of all namespaces; how many.
-- What another transaction has locked is left for later, so nobody waits for a sweep that waits.
CREATE OR REPLACE FUNCTION oncelog.sweep(p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET enable_seqscan TO off AS $$
DECLARE
    now bigint := oncelog.now_ms();
    places tid[];
BEGIN
    DELETE FROM oncelog.waiters w WHERE w.until < now - 60000;
    -- All records of an earlier bucket are expired.
    places := ARRAY(
        SELECT r.ctid FROM oncelog.records r WHERE r.bucket < (now >> 16)::integer
        ORDER BY r.bucket LIMIT p_limit FOR UPDATE SKIP LOCKED);
    IF cardinality(places) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM nextval('oncelog.removals');
    DELETE FROM oncelog.records r WHERE r.ctid = ANY (places);
    RETURN cardinality(places);
END
$$;

-- Says who wants to be told of a key, for how long; anybody else who waits gets the same token.
CREATE OR REPLACE FUNCTION oncelog.await(p_space integer, p_key bytea, p_token text, p_ms bigint)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now bigint := oncelog.now_ms();
BEGIN
    INSERT INTO oncelog.waiters AS w (space, key, token, until)
    VALUES (p_space, p_key, p_token, now + p_ms)
    ON CONFLICT (space, key) DO UPDATE SET until = EXCLUDED.until
    WHERE w.until < EXCLUDED.until;
END
$$;

INSERT INTO oncelog.migrations (number) VALUES (3) ON CONFLICT DO NOTHING;
