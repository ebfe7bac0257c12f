-- The verbs that claim a key: check_and_set and begin.
--
-- Each looks first, without a lock, and answers what is decided already without writing. What is
-- to be written is written by one statement that names the record that was seen: where another
-- call has been faster nothing is written, and the call looks again. Under REPEATABLE READ that is
-- a serialization failure instead.
--
-- Versions are to rise with each record of a key. The version of a new row is drawn before the row
-- is there, so a whole life of the key, with greater versions, might pass in between: it would end
-- with a removal, and those are counted. If one was counted, another version is drawn.
--
-- Verdicts: 0 done, 1 has an outcome, 2 in progress or released for later, 3 another fingerprint,
-- 4 its effect is unknown, 5 attempts used up, 6 may be forgotten (expires says since when not),
-- 7 the lease is lost, 8 the outcome is too long, 9 nothing to do, 10 ask again.

-- Draws another version and counts the times from now, after the statement had to wait.
CREATE OR REPLACE FUNCTION oncelog.restamp(
    p_space integer, p_key bytea, p_since bigint,
    INOUT version bigint, INOUT deadline bigint, INOUT expires bigint
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    late bigint := oncelog.now_ms() - p_since;
BEGIN
    UPDATE oncelog.records r SET
        version = nextval('oncelog.versions'),
        first_seen = CASE WHEN r.first_seen = p_since THEN p_since + late ELSE r.first_seen END,
        updated = r.updated + late,
        deadline = CASE WHEN r.deadline = 0 THEN 0 ELSE r.deadline + late END,
        expires = CASE WHEN r.expires = 9223372036854775807 THEN r.expires
            ELSE r.expires + late END,
        bucket = CASE WHEN r.expires <> 9223372036854775807
            THEN oncelog.bucket_of(r.expires + late) END
    WHERE r.space = p_space AND r.key = p_key
    RETURNING r.version, r.deadline, r.expires
    INTO restamp.version, restamp.deadline, restamp.expires;
END
$$;

CREATE OR REPLACE FUNCTION oncelog.check_and_set(
    p_space integer, p_born bigint, p_key bytea,
    p_outcome bytea, p_outcome_bytes integer, p_digest bytea,
    p_retention bigint, p_lifetime bigint, p_outcome_ms bigint, p_last_seen boolean,
    p_sent_at bigint,
    OUT verdict smallint, OUT now bigint, OUT version bigint, OUT kind smallint,
    OUT attempts integer, OUT first_seen bigint, OUT updated bigint, OUT deadline bigint,
    OUT expires bigint, OUT flags smallint, OUT fingerprint bytea, OUT gone boolean,
    OUT outcome_bytes integer, OUT outcome bytea, OUT digest bytea
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    present boolean;
    until bigint;
    removals bigint;
    removed boolean;
    outcome_ms bigint;
BEGIN
    LOOP
        SELECT r.version, r.kind, r.attempts, r.first_seen, r.updated, r.deadline, r.expires,
            r.flags, r.fingerprint, r.outcome_ms, coalesce(r.outcome_bytes, length(r.outcome)),
            r.outcome, r.digest
        INTO version, kind, attempts, first_seen, updated, deadline, expires,
            flags, fingerprint, outcome_ms, outcome_bytes, outcome, digest
        FROM oncelog.records r WHERE r.space = p_space AND r.key = p_key;
        present := FOUND;
        now := oncelog.now_ms();
        IF present AND expires > now THEN
            IF kind >= 3 THEN
                IF p_last_seen AND expires < oncelog.ends(now, p_retention) THEN
                    until := oncelog.ends(now, p_lifetime);
                    UPDATE oncelog.records r SET version = nextval('oncelog.versions'),
                        expires = until, bucket = oncelog.bucket_of(until), flags = r.flags | 8
                    WHERE r.space = p_space AND r.key = p_key
                        AND r.version = check_and_set.version
                    RETURNING r.version, r.expires
                    INTO version, expires;
                    CONTINUE WHEN NOT FOUND;
                END IF;
                gone := outcome IS NULL OR coalesce(updated + outcome_ms <= now, false);
                IF gone THEN
                    outcome := NULL;
                END IF;
                verdict := 1;
                RETURN;
            ELSIF kind = 1 AND now < deadline THEN
                verdict := 2;
                RETURN;
            ELSIF kind = 1 AND flags & 1 <> 0 THEN
                verdict := 4;
                RETURN;
            END IF;
        ELSIF p_sent_at < greatest(p_born, now - p_retention) THEN
            verdict := 6;
            expires := greatest(p_born, now - p_retention);
            RETURN;
        END IF;
        until := oncelog.ends(now, p_lifetime);
        IF present THEN
            IF expires > now THEN
                until := greatest(until, expires);
            END IF;
            UPDATE oncelog.records r SET kind = 3, version = nextval('oncelog.versions'),
                attempts = 0, first_seen = check_and_set.now, updated = check_and_set.now,
                deadline = 0, expires = until, bucket = oncelog.bucket_of(until), flags = 0,
                lifetime = NULL, outcome_ms = p_outcome_ms, fingerprint = NULL,
                outcome = p_outcome, outcome_bytes = p_outcome_bytes, digest = p_digest
            WHERE r.space = p_space AND r.key = p_key AND r.version = check_and_set.version
                AND r.deadline = check_and_set.deadline
            RETURNING r.version INTO version;
            CONTINUE WHEN NOT FOUND;
            removed := false;
        ELSE
            removals := pg_sequence_last_value('oncelog.removals');
            INSERT INTO oncelog.records AS r (space, key, version, kind, attempts, first_seen,
                updated, deadline, expires, bucket, flags, outcome_ms, outcome, outcome_bytes,
                digest)
            VALUES (p_space, p_key, nextval('oncelog.versions'), 3, 0, now, now, 0, until,
                oncelog.bucket_of(until), 0, p_outcome_ms, p_outcome, p_outcome_bytes, p_digest)
            ON CONFLICT DO NOTHING
            RETURNING r.version INTO version;
            CONTINUE WHEN NOT FOUND;
            removed := (removals = pg_sequence_last_value('oncelog.removals')) IS NOT TRUE;
        END IF;
        IF removed OR oncelog.now_ms() > now + 100 THEN
            SELECT s.version, s.expires INTO version, until
            FROM oncelog.restamp(p_space, p_key, now, version, 0, until) s;
            now := oncelog.now_ms();
        END IF;
        verdict := 0;
        kind := 3;
        attempts := 0;
        first_seen := now;
        updated := now;
        deadline := 0;
        expires := until;
        flags := 0;
        fingerprint := NULL;
        gone := p_outcome IS NULL;
        outcome_bytes := coalesce(p_outcome_bytes, length(p_outcome));
        -- The caller has it.
        outcome := NULL;
        digest := p_digest;
        RETURN;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION oncelog.begin(
    p_space integer, p_born bigint, p_key bytea, p_fingerprint bytea, p_lease bigint,
    p_attempts_max bigint, p_flags smallint,
    p_retention bigint, p_lifetime bigint, p_outcome_ms bigint, p_last_seen boolean,
    p_sent_at bigint,
    OUT verdict smallint, OUT now bigint, OUT version bigint, OUT kind smallint,
    OUT attempts integer, OUT first_seen bigint, OUT updated bigint, OUT deadline bigint,
    OUT expires bigint, OUT flags smallint, OUT fingerprint bytea, OUT gone boolean,
    OUT outcome_bytes integer, OUT outcome bytea, OUT digest bytea
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    present boolean;
    known boolean;
    until bigint;
    ends bigint;
    removals bigint;
    removed boolean;
    outcome_ms bigint;
BEGIN
    LOOP
        SELECT r.version, r.kind, r.attempts, r.first_seen, r.updated, r.deadline, r.expires,
            r.flags, r.fingerprint, r.outcome_ms, coalesce(r.outcome_bytes, length(r.outcome)),
            r.outcome, r.digest
        INTO version, kind, attempts, first_seen, updated, deadline, expires,
            flags, fingerprint, outcome_ms, outcome_bytes, outcome, digest
        FROM oncelog.records r WHERE r.space = p_space AND r.key = p_key;
        present := FOUND;
        now := oncelog.now_ms();
        known := present AND expires > now;
        IF known THEN
            -- Another request sees nothing of the outcome.
            gone := kind >= 3 AND (outcome IS NULL OR coalesce(updated + outcome_ms <= now, false));
            IF fingerprint <> p_fingerprint THEN
                verdict := 3;
            ELSIF kind >= 3 THEN
                verdict := 1;
            ELSIF kind = 1 AND now < deadline THEN
                verdict := 2;
            ELSIF kind = 1 AND flags & 1 <> 0 THEN
                verdict := 4;
            ELSIF attempts >= p_attempts_max THEN
                verdict := 5;
            ELSIF kind = 2 AND now < deadline THEN
                verdict := 2;
            END IF;
            IF verdict = 1 AND p_last_seen AND expires < oncelog.ends(now, p_retention) THEN
                until := oncelog.ends(now, p_lifetime);
                UPDATE oncelog.records r SET version = nextval('oncelog.versions'),
                    expires = until, bucket = oncelog.bucket_of(until), flags = r.flags | 8
                WHERE r.space = p_space AND r.key = p_key AND r.version = begin.version
                RETURNING r.version, r.expires
                INTO version, expires;
                IF NOT FOUND THEN
                    verdict := NULL;
                    CONTINUE;
                END IF;
            END IF;
            IF verdict IS NOT NULL THEN
                IF gone OR verdict <> 1 THEN
                    outcome := NULL;
                END IF;
                IF verdict <> 1 THEN
                    digest := NULL;
                END IF;
                RETURN;
            END IF;
        ELSIF p_sent_at < greatest(p_born, now - p_retention) THEN
            verdict := 6;
            expires := greatest(p_born, now - p_retention);
            RETURN;
        END IF;
        ends := now + p_lease;
        IF present THEN
            IF known THEN
                attempts := attempts + 1;
                until := greatest(oncelog.ends(
                    CASE WHEN p_flags & 2 <> 0 THEN first_seen ELSE now END, p_lifetime),
                    expires, ends);
                fingerprint := coalesce(fingerprint, p_fingerprint);
            ELSE
                attempts := 1;
                first_seen := now;
                until := greatest(oncelog.ends(now, p_lifetime), ends);
                fingerprint := p_fingerprint;
            END IF;
            UPDATE oncelog.records r SET kind = 1, version = nextval('oncelog.versions'),
                attempts = begin.attempts, first_seen = begin.first_seen, updated = begin.now,
                deadline = ends, expires = until, bucket = oncelog.bucket_of(until),
                flags = p_flags, lifetime = p_lifetime, outcome_ms = p_outcome_ms,
                fingerprint = begin.fingerprint,
                outcome = NULL, outcome_bytes = NULL, digest = NULL
            WHERE r.space = p_space AND r.key = p_key AND r.version = begin.version
                AND r.deadline = begin.deadline
            RETURNING r.version INTO version;
            CONTINUE WHEN NOT FOUND;
            removed := false;
        ELSE
            attempts := 1;
            first_seen := now;
            until := greatest(oncelog.ends(now, p_lifetime), ends);
            removals := pg_sequence_last_value('oncelog.removals');
            INSERT INTO oncelog.records AS r (space, key, version, kind, attempts, first_seen,
                updated, deadline, expires, bucket, flags, lifetime, outcome_ms, fingerprint)
            VALUES (p_space, p_key, nextval('oncelog.versions'), 1, 1, now, now, ends, until,
                oncelog.bucket_of(until), p_flags, p_lifetime, p_outcome_ms, p_fingerprint)
            ON CONFLICT DO NOTHING
            RETURNING r.version INTO version;
            CONTINUE WHEN NOT FOUND;
            removed := (removals = pg_sequence_last_value('oncelog.removals')) IS NOT TRUE;
        END IF;
        deadline := ends;
        expires := until;
        IF removed OR oncelog.now_ms() > now + 100 THEN
            SELECT s.version, s.deadline, s.expires INTO version, deadline, expires
            FROM oncelog.restamp(p_space, p_key, now, version, deadline, expires) s;
        END IF;
        verdict := 0;
        outcome := NULL;
        digest := NULL;
        RETURN;
    END LOOP;
END
$$;

INSERT INTO oncelog.migrations (number) VALUES (2) ON CONFLICT DO NOTHING;
