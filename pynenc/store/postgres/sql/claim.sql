-- The claim: READY rows in order become PENDING under a new owner; and before that, what is due becomes READY.
--
-- Rows without anything special are taken by one statement for the whole batch, beside other claims (SKIP LOCKED). The others (they may expire, drop out, hold a
-- registration key, be the head of a rate) are looked at one by one in their turn, by who has the turn of the app; who has not passes them over.

-- The statements here name the order of the index that is meant ("ORDER BY timer LIMIT 1"), and whoever calls them has sorting off: where a table was analyzed
-- when it was nearly empty, the planner thinks all indices alike, and might read one of all invocations. So a row is also found by its number alone, which no two apps share: never by number and app.

-- An answer. The first row of a claim has no id: it carries what concerns all of it.
CREATE OR REPLACE FUNCTION @is_lost(app_ bigint, who text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    RETURN NOT EXISTS (SELECT 1 FROM @runner WHERE app = app_ AND id = who AND death IS NULL);
END $f$;

-- The queues of a claim that are not paused.
CREATE OR REPLACE FUNCTION @open_queues(app_ bigint, asked text[]) RETURNS text[] LANGUAGE plpgsql AS $f$
BEGIN
    IF cardinality(asked) = 0 THEN
        RETURN (SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM @queue WHERE app = app_ AND state <> 'paused');
    END IF;
    RETURN (SELECT coalesce(array_agg(u.name ORDER BY u.n), '{}') FROM unnest(asked) WITH ORDINALITY u (name, n)
            WHERE EXISTS (SELECT 1 FROM @queue WHERE app = app_ AND name = u.name AND state <> 'paused'));
END $f$;

-- Whether a claim from these queues needs the turn of the app.
CREATE OR REPLACE FUNCTION @claim_needs_turn(app_ bigint, names text[], now bigint) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    RETURN EXISTS (SELECT 1 FROM unnest(names) q WHERE EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q AND place = P_READY AND special OFFSET 0))
        OR EXISTS (SELECT 1 FROM unnest(names) q WHERE (
            SELECT true FROM @inv WHERE app = app_ AND queue = q AND timer <= now
            AND (place = P_WAITING OR running_key IS NOT NULL OR special) ORDER BY timer LIMIT 1));
END $f$;

-- What has waited for its time settles; a bounded number in one transaction.
CREATE OR REPLACE FUNCTION @admit_due(app_ bigint, names text[], now bigint, turn boolean) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    q text;
    r @inv;
    n integer;
BEGIN
    FOREACH q IN ARRAY names LOOP
        CONTINUE WHEN (SELECT true FROM @inv WHERE app = app_ AND queue = q AND timer <= now ORDER BY timer LIMIT 1) IS NULL;
        UPDATE @inv SET place = P_READY, timer = NULL WHERE seq IN (
            SELECT seq FROM @inv WHERE app = app_ AND queue = q AND timer <= now AND place = P_LATER AND running_key IS NULL AND NOT special
            ORDER BY timer LIMIT 5000 FOR UPDATE SKIP LOCKED);
        GET DIAGNOSTICS n = ROW_COUNT;
        IF n > 0 THEN
            PERFORM @stir(n);
        END IF;
        CONTINUE WHEN NOT turn;
        FOR r IN SELECT * FROM @inv WHERE app = app_ AND queue = q AND timer <= now ORDER BY timer, seq LIMIT 500 FOR UPDATE LOOP
            IF r.place = P_WAITING THEN
                PERFORM @rouse(r, 'its time has come', now);
            ELSE
                PERFORM @save(@settle(r, now));
            END IF;
        END LOOP;
    END LOOP;
END $f$;

-- The first READY rows of one queue, locked: those above the plain ones, the plain ones, those below. Only as far as needed.
-- "hint": the plain ones up to this number are known to be gone.
CREATE OR REPLACE FUNCTION @pick(app_ bigint, q text, lim bigint, without_ text[], hint bigint, turn boolean)
RETURNS TABLE (seq bigint, special boolean) LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY
        SELECT * FROM (SELECT i.seq, i.special FROM @inv i WHERE i.app = app_ AND i.queue = q AND i.place = P_READY AND (i.rank <> 0 OR i.boost <> 0) AND NOT i.alone
            AND i.rank >= 0 AND (turn OR NOT i.special) AND i.task <> ALL (without_)
            ORDER BY i.rank DESC, i.boost DESC, i.seq LIMIT lim FOR UPDATE SKIP LOCKED) arm
        UNION ALL
        SELECT * FROM (SELECT i.seq, i.special FROM @inv i WHERE i.app = app_ AND i.queue = q AND i.place = P_READY AND i.rank = 0 AND i.boost = 0 AND NOT i.alone
            AND i.seq > hint AND (turn OR NOT i.special) AND i.task <> ALL (without_)
            ORDER BY i.seq LIMIT lim FOR UPDATE SKIP LOCKED) arm
        UNION ALL
        SELECT * FROM (SELECT i.seq, i.special FROM @inv i WHERE i.app = app_ AND i.queue = q AND i.place = P_READY AND (i.rank <> 0 OR i.boost <> 0) AND NOT i.alone
            AND i.rank < 0 AND (turn OR NOT i.special) AND i.task <> ALL (without_)
            ORDER BY i.rank DESC, i.boost DESC, i.seq LIMIT lim FOR UPDATE SKIP LOCKED) arm
        LIMIT lim;
END $f$;

-- The same, oldest first.
CREATE OR REPLACE FUNCTION @pick_aged(app_ bigint, q text, lim bigint, without_ text[], turn boolean)
RETURNS TABLE (seq bigint, special boolean) LANGUAGE plpgsql AS $f$
DECLARE
    ranked bigint;
    plain bigint;
BEGIN
    -- How many of the first lie in each index, then these.
    SELECT count(*) FILTER (WHERE x.is_ranked), count(*) FILTER (WHERE NOT x.is_ranked) INTO ranked, plain FROM (
        SELECT * FROM (
            (SELECT true AS is_ranked, i.seq FROM @inv i WHERE i.app = app_ AND i.queue = q AND i.place = P_READY AND (i.rank <> 0 OR i.boost <> 0) AND NOT i.alone
                AND (turn OR NOT i.special) AND i.task <> ALL (without_) ORDER BY i.seq LIMIT lim)
            UNION ALL
            (SELECT false, i.seq FROM @inv i WHERE i.app = app_ AND i.queue = q AND i.place = P_READY AND i.rank = 0 AND i.boost = 0 AND NOT i.alone
                AND (turn OR NOT i.special) AND i.task <> ALL (without_) ORDER BY i.seq LIMIT lim)
        ) y ORDER BY y.seq LIMIT lim) x;
    RETURN QUERY SELECT z.seq, z.special FROM (
        SELECT * FROM (SELECT i.seq, i.special FROM @inv i WHERE i.app = app_ AND i.queue = q AND i.place = P_READY AND (i.rank <> 0 OR i.boost <> 0) AND NOT i.alone
            AND (turn OR NOT i.special) AND i.task <> ALL (without_) ORDER BY i.seq LIMIT ranked FOR UPDATE SKIP LOCKED) arm
        UNION ALL
        SELECT * FROM (SELECT i.seq, i.special FROM @inv i WHERE i.app = app_ AND i.queue = q AND i.place = P_READY AND i.rank = 0 AND i.boost = 0 AND NOT i.alone
            AND (turn OR NOT i.special) AND i.task <> ALL (without_) ORDER BY i.seq LIMIT plain FOR UPDATE SKIP LOCKED) arm
    ) z ORDER BY z.seq;
END $f$;

-- The suspects of some queues, locked.
CREATE OR REPLACE FUNCTION @pick_suspects(app_ bigint, names text[], lim bigint, without_ text[], turn boolean)
RETURNS TABLE (seq bigint, special boolean) LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY SELECT i.seq, i.special FROM @inv i WHERE i.app = app_ AND i.queue = ANY (names) AND i.place = P_READY AND i.alone
        AND (turn OR NOT i.special) AND i.task <> ALL (without_) ORDER BY i.rank DESC, i.boost DESC, i.seq LIMIT lim FOR UPDATE SKIP LOCKED;
END $f$;

-- Those of some ids that are READY, locked.
CREATE OR REPLACE FUNCTION @pick_named(app_ bigint, names text[], ids text[], lim bigint, without_ text[], alone_ boolean, aged boolean, turn boolean)
RETURNS TABLE (seq bigint, special boolean) LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY SELECT i.seq, i.special FROM @inv i WHERE i.app = app_ AND i.id = ANY (ids) AND i.queue = ANY (names) AND i.place = P_READY
        AND i.alone = alone_ AND (turn OR NOT i.special) AND i.task <> ALL (without_)
        ORDER BY CASE WHEN aged THEN 0 ELSE -i.rank END, CASE WHEN aged THEN 0 ELSE -i.boost END, i.seq LIMIT lim FOR UPDATE SKIP LOCKED;
END $f$;

-- How the first rows of several queues lie in them, as if they were one.
CREATE OR REPLACE FUNCTION @spread(app_ bigint, names text[], lim bigint, without_ text[], aged boolean, turn boolean)
RETURNS TABLE (q text, n bigint) LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY SELECT x.name, count(*) FROM (
        SELECT u.name, y.rank, y.boost, y.seq FROM unnest(names) u (name), LATERAL (
            (SELECT i.rank, i.boost, i.seq FROM @inv i WHERE i.app = app_ AND i.queue = u.name AND i.place = P_READY AND (i.rank <> 0 OR i.boost <> 0)
                AND NOT i.alone AND (turn OR NOT i.special) AND i.task <> ALL (without_) AND NOT aged ORDER BY i.rank DESC, i.boost DESC, i.seq LIMIT lim)
            UNION ALL
            (SELECT i.rank, i.boost, i.seq FROM @inv i WHERE i.app = app_ AND i.queue = u.name AND i.place = P_READY AND (i.rank <> 0 OR i.boost <> 0)
                AND NOT i.alone AND (turn OR NOT i.special) AND i.task <> ALL (without_) AND aged ORDER BY i.seq LIMIT lim)
            UNION ALL
            (SELECT i.rank, i.boost, i.seq FROM @inv i WHERE i.app = app_ AND i.queue = u.name AND i.place = P_READY AND i.rank = 0 AND i.boost = 0
                AND NOT i.alone AND (turn OR NOT i.special) AND i.task <> ALL (without_) ORDER BY i.seq LIMIT lim)
        ) y ORDER BY CASE WHEN aged THEN 0 ELSE -y.rank END, CASE WHEN aged THEN 0 ELSE -y.boost END, y.seq LIMIT lim
    ) x GROUP BY x.name;
END $f$;

-- The first READY rows in the order of the claim, locked.
CREATE OR REPLACE FUNCTION @candidates(app_ bigint, names text[], lim bigint, ids text[], alone_ boolean, aged boolean, without_ text[], hint bigint, turn boolean)
RETURNS TABLE (seq bigint, special boolean) LANGUAGE plpgsql AS $f$
DECLARE
    part record;
BEGIN
    IF cardinality(ids) > 0 THEN
        RETURN QUERY SELECT * FROM @pick_named(app_, names, ids, lim, without_, alone_, aged, turn);
    ELSIF alone_ THEN
        RETURN QUERY SELECT * FROM @pick_suspects(app_, names, lim, without_, turn);
    ELSIF cardinality(names) = 1 AND aged THEN
        RETURN QUERY SELECT * FROM @pick_aged(app_, names[1], lim, without_, turn);
    ELSIF cardinality(names) = 1 THEN
        RETURN QUERY SELECT * FROM @pick(app_, names[1], lim, without_, hint, turn);
    ELSE
        FOR part IN SELECT * FROM @spread(app_, names, lim, without_, aged, turn) LOOP
            IF aged THEN
                RETURN QUERY SELECT * FROM @pick_aged(app_, part.q, part.n, without_, turn);
            ELSE
                RETURN QUERY SELECT * FROM @pick(app_, part.q, part.n, without_, 0, turn);
            END IF;
        END LOOP;
    END IF;
END $f$;

-- Make rows PENDING. They are locked.
CREATE OR REPLACE FUNCTION @own(app_ bigint, seqs bigint[], who text, now bigint) RETURNS SETOF @claimed LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY UPDATE @inv i SET place = P_CLAIMED, status = S_PENDING, attempt = i.attempt + 1, runner = who, claimed = now, started = 0, rated = NULL
        WHERE i.seq = ANY (seqs)
        RETURNING i.id, i.task, i.attempt, i.args, i.blobs, i.queue, i.priority, i.retries, i.crashes, i.max_crashes, i.round, i.timeout, i.created, i.claimed,
            i.parent, i.workflow, i.workflow_type, i.workflow_parent, i.tags, i.alone, i.seq, i.rank, i.boost;
END $f$;

-- Whether a special row may be claimed; if not, it has ended. The turn is ours.
CREATE OR REPLACE FUNCTION @may_claim(r @inv, now bigint) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    IF r.attempt = 0 AND r.round = 0 AND 0 < r.expires AND r.expires <= now THEN
        PERFORM @finalize(r, S_CANCELLED, 'expired', '', 0, now);
        RETURN false;
    END IF;
    IF r.drop_blocked AND r.running_key IS NOT NULL AND (
        SELECT count(*) FROM @inv WHERE app = r.app AND held IN (r.running_key, E'\x01' || r.running_key) AND place = P_CLAIMED) >= r.running_limit
    THEN
        PERFORM @finalize(r, S_CONCURRENCY_CONTROLLED_FINAL, 'its running key was held', '', 0, now);
        RETURN false;
    END IF;
    IF r.registration_key IS NOT NULL THEN
        DELETE FROM @registration WHERE app = r.app AND key = r.registration_key AND seq = r.seq;
    END IF;
    RETURN true;
END $f$;

-- What follows from the claim of a special row: a dropping one counts for its like, but parks nobody; a rate is spent.
CREATE OR REPLACE FUNCTION @note_claim(r @inv, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    IF r.drop_blocked AND r.running_key IS NOT NULL THEN
        UPDATE @inv SET held = E'\x01' || r.running_key WHERE seq = r.seq;
    END IF;
    IF r.rate_key IS NOT NULL THEN
        DELETE FROM @rate WHERE app = r.app AND key = r.rate_key AND at <= now - r.rate_period;
        INSERT INTO @rate (app, key, at) VALUES (r.app, r.rate_key, now);
        PERFORM @next_head(r.app, r.rate_key, now);
    END IF;
END $f$;

-- The claim of one queue with ranked rows but nothing special, without the turn: "pick" and "own" in one statement.
CREATE OR REPLACE FUNCTION @take_ranked(app_ bigint, now bigint, who text, q text, lim bigint, without_ text[], hint bigint) RETURNS SETOF @claimed
LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY UPDATE @inv i SET place = P_CLAIMED, status = S_PENDING, attempt = i.attempt + 1, runner = who, claimed = now, started = 0
        WHERE i.seq = ANY (ARRAY(SELECT p.seq FROM @pick(app_, q, lim, without_, hint, false) p))
        RETURNING i.id, i.task, i.attempt, i.args, i.blobs, i.queue, i.priority, i.retries, i.crashes, i.max_crashes, i.round, i.timeout, i.created, i.claimed,
            i.parent, i.workflow, i.workflow_type, i.workflow_parent, i.tags, i.alone, i.seq, i.rank, i.boost;
END $f$;

-- Take at most "most" rows from some queues as one.
CREATE OR REPLACE FUNCTION @take(app_ bigint, now bigint, who text, names text[], most bigint, ids text[], alone_ boolean, aged boolean, without_ text[],
                                 hint bigint, turn boolean) RETURNS SETOF @claimed LANGUAGE plpgsql AS $f$
DECLARE
    got bigint := 0;
    seqs bigint[];
    specials boolean[];
    plain bigint[];
    q text;
    n bigint;
    r @inv;
BEGIN
    WHILE got < most LOOP
        SELECT array_agg(c.seq), array_agg(c.special) INTO seqs, specials
            FROM @candidates(app_, names, most - got, ids, alone_, aged, without_, hint, turn) c;
        IF seqs IS NULL THEN
            EXIT WHEN hint = 0;
            hint := 0;
            CONTINUE;
        END IF;
        IF cardinality(names) > 1 AND true = ANY (specials) THEN
            -- They come queue by queue, but what one of them holds others may be dropped for: in the order of the claim.
            SELECT array_agg(x.seq), array_agg(x.special) INTO seqs, specials FROM (
                SELECT i.seq, i.special FROM @inv i WHERE i.seq = ANY (seqs)
                    ORDER BY CASE WHEN aged THEN 0 ELSE -i.rank END, CASE WHEN aged THEN 0 ELSE -i.boost END, i.seq) x;
        END IF;
        IF true <> ALL (specials) THEN
            RETURN QUERY SELECT * FROM @own(app_, seqs, who, now);
            got := got + cardinality(seqs);
        ELSE
            plain := '{}';
            FOR n IN 1 .. cardinality(seqs) LOOP
                IF NOT specials[n] THEN
                    plain := plain || seqs[n];
                    got := got + 1;
                    CONTINUE;
                END IF;
                RETURN QUERY SELECT * FROM @own(app_, plain, who, now);
                plain := '{}';
                SELECT * INTO r FROM @inv WHERE seq = seqs[n] AND place = P_READY;
                CONTINUE WHEN NOT FOUND OR NOT @may_claim(r, now);
                RETURN QUERY SELECT * FROM @own(app_, ARRAY[r.seq], who, now);
                PERFORM @note_claim(r, now);
                got := got + 1;
            END LOOP;
            RETURN QUERY SELECT * FROM @own(app_, plain, who, now);
        END IF;
        EXIT WHEN cardinality(ids) > 0;
        -- Whatever the hint has hidden comes at the end.
        EXIT WHEN hint = 0 AND got < most AND true <> ALL (specials) AND cardinality(names) = 1;
        hint := CASE WHEN got < most THEN 0 ELSE hint END;
    END LOOP;
    -- Others may hold those that came first in the order of several queues.
    IF got < most AND cardinality(names) > 1 AND cardinality(ids) = 0 AND NOT alone_ THEN
        FOREACH q IN ARRAY names LOOP
            RETURN QUERY SELECT * FROM @take(app_, now, who, ARRAY[q], most - got, ids, alone_, aged, without_, 0, turn);
            GET DIAGNOSTICS n = ROW_COUNT;
            got := got + n;
        END LOOP;
    END IF;
END $f$;

-- Carry out a claim; "asked" and "mosts" are the shares, "names" the open queues among them (or all).
CREATE OR REPLACE FUNCTION @claim_batch(app_ bigint, now bigint, who text, lim bigint, asked text[], mosts bigint[], names text[], ids text[], alone_ boolean,
                                        aged boolean, without_ text[], hint bigint, turn boolean) RETURNS SETOF @claimed LANGUAGE plpgsql AS $f$
DECLARE
    room bigint := CASE WHEN alone_ THEN least(lim, 1) ELSE lim END;
    n bigint;
BEGIN
    IF EXISTS (SELECT 1 FROM unnest(names) q WHERE (SELECT true FROM @inv WHERE app = app_ AND queue = q AND timer <= now ORDER BY timer LIMIT 1)) THEN
        PERFORM @admit_due(app_, names, now, turn);
    END IF;
    IF cardinality(asked) = 0 THEN
        IF cardinality(names) > 0 THEN
            RETURN QUERY SELECT * FROM @take(app_, now, who, names, room, ids, alone_, aged, without_, hint, turn);
        END IF;
        RETURN;
    END IF;
    FOR k IN 1 .. cardinality(asked) LOOP
        CONTINUE WHEN NOT asked[k] = ANY (names);
        RETURN QUERY SELECT * FROM @take(app_, now, who, ARRAY[asked[k]], least(room, mosts[k]), ids, alone_, aged, without_, hint, turn);
        GET DIAGNOSTICS n = ROW_COUNT;
        room := room - n;
    END LOOP;
END $f$;

-- What a runner owns, as it was claimed.
CREATE OR REPLACE FUNCTION @owned(app_ bigint, who text) RETURNS SETOF @claimed LANGUAGE sql STABLE AS $f$
    SELECT i.id, i.task, i.attempt, i.args, i.blobs, i.queue, i.priority, i.retries, i.crashes, i.max_crashes, i.round, i.timeout, i.created, i.claimed,
        i.parent, i.workflow, i.workflow_type, i.workflow_parent, i.tags, i.alone, i.seq, i.rank, i.boost
    FROM @inv i WHERE i.app = app_ AND i.runner = who AND i.place = P_CLAIMED ORDER BY i.seq
$f$;
