-- The end of attempts, and the next claim in the same step. All behind the fence: id, attempt and runner must match.
--
-- "seqs" are the rows of the ids and "pos" says where each id stands in the arguments (first; where only the latest attempt can count, that one), so that no statement joins ("OFFSET 0" keeps EXISTS from it): a plan that was made when there were few rows
-- may join in an order that takes for ever with many. The rest of the fence is written so that no index serves it ("IS NOT DISTINCT FROM", "+ 0").

-- One outcome that the statement for all did not write. Whether it counts.
CREATE OR REPLACE FUNCTION @end_one(app_ bigint, now bigint, who text, id_ text, attempt_ bigint, status_ bigint, data bytea, retries_ bigint, crashes_ bigint,
                                    started_ bigint, ended_ bigint, reason_ text, alone_ boolean, due_ bigint, is_unknown boolean, extra text, args_ bytea)
RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    r @inv;
    is_unused boolean;
BEGIN
    SELECT * INTO r FROM @inv WHERE app = app_ AND id = id_ FOR UPDATE;
    IF NOT FOUND OR r.attempt <> attempt_ OR r.runner IS DISTINCT FROM who THEN
        RETURN false;
    END IF;
    IF r.cancel AND status_ = S_CANCELLED AND reason_ = '' THEN
        reason_ := r.reason;
    END IF;
    IF r.place = P_FINAL THEN
        -- Written just now by the statement for all, or sent again after a lost reply.
        IF r.status <> status_ OR coalesce(r.payload, '') <> data OR r.reason <> reason_ THEN
            RETURN false;
        END IF;
        PERFORM @settle_waits(app_, r.id, now);
        RETURN true;
    END IF;
    IF r.place <> P_CLAIMED THEN
        RETURN false;
    END IF;
    r.retries := retries_;
    r.crashes := crashes_;
    r.alone := alone_;
    r.started := CASE WHEN started_ > 0 THEN started_ ELSE r.started END;
    IF status_ IN (FINAL_STATUSES) THEN
        PERFORM @finalize(r, status_::integer, reason_, data, ended_, now);
    ELSIF r.cancel THEN
        PERFORM @finalize(r, S_CANCELLED, r.reason, '', 0, now);
    ELSE
        is_unknown := is_unknown AND NOT @is_known(app_, r.task, who);
        is_unused := r.rate_key IS NOT NULL AND status_ = S_REGISTERED AND r.started = 0 AND NOT r.alone;
        IF is_unused THEN
            DELETE FROM @rate WHERE ctid = (SELECT ctid FROM @rate WHERE app = app_ AND key = r.rate_key AND at = r.claimed LIMIT 1);
        END IF;
        r := @give_back(r, status_::integer, reason_, data, due_, is_unknown, extra::json, args_, now);
        IF is_unused THEN
            PERFORM @go_first(r, now);
        END IF;
    END IF;
    RETURN true;
END $f$;

-- End attempts: finals without a running key that nobody wants cancelled by one statement, the rest one by one. The ids that are lost.
CREATE OR REPLACE FUNCTION @end_all(app_ bigint, now bigint, who text, ids text[], attempts bigint[], statuses bigint[], payloads bytea[], retries_ bigint[],
                                    crashes_ bigint[], started_ bigint[], ended_ bigint[], reasons text[], alones boolean[], dues bigint[], unknowns boolean[],
                                    extras text[], news bytea[], reacts boolean, turn boolean)
RETURNS text[] LANGUAGE plpgsql AS $f$
DECLARE
    seqs bigint[] := ARRAY(SELECT (SELECT s.seq FROM @inv s WHERE s.app = app_ AND s.id = u) FROM unnest(ids) u);
    pos jsonb := (SELECT jsonb_object_agg(u.id, u.n ORDER BY u.n DESC) FROM unnest(ids) WITH ORDINALITY u (id, n));
    n integer := 0;
    o record;
    lost text[] := '{}';
BEGIN
    IF cardinality(extras) > 0 THEN
        -- What is awaited, with those that end, in the order of ids: nothing that is looked at can end meanwhile.
        PERFORM 1 FROM @inv WHERE app = app_ AND id = ANY (ids || ARRAY(
            SELECT json_array_elements_text(e::json -> 'awaits') FROM unnest(extras) e WHERE e <> '')) ORDER BY id FOR NO KEY UPDATE;
    END IF;
    UPDATE @inv i SET place = P_FINAL, status = statuses[(pos ->> i.id)::integer], payload = payloads[(pos ->> i.id)::integer], retries = retries_[(pos ->> i.id)::integer],
            crashes = crashes_[(pos ->> i.id)::integer], reason = reasons[(pos ->> i.id)::integer], alone = alones[(pos ->> i.id)::integer],
            started = coalesce(nullif(started_[(pos ->> i.id)::integer], 0), i.started),
            ended = coalesce(nullif(ended_[(pos ->> i.id)::integer], 0), now),
            gone = CASE WHEN i.result_ttl > 0 THEN coalesce(nullif(ended_[(pos ->> i.id)::integer], 0), now) + i.result_ttl END
        WHERE i.seq = ANY (seqs) AND i.attempt = attempts[(pos ->> i.id)::integer] AND i.runner IS NOT DISTINCT FROM who AND i.place + 0 = P_CLAIMED AND i.held IS NULL
            AND NOT i.cancel AND statuses[(pos ->> i.id)::integer] IN (FINAL_STATUSES) AND NOT reacts;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n < cardinality(ids) THEN
        FOR o IN SELECT * FROM unnest(ids, attempts, statuses, payloads, retries_, crashes_, started_, ended_, reasons, alones, dues, unknowns, extras, news)
            AS u (id, attempt, status, payload, retries, crashes, started, ended, reason, alone, due, is_unknown, extra, args) LOOP
            IF NOT @end_one(app_, now, who, o.id, o.attempt, o.status, o.payload, o.retries, o.crashes, o.started, o.ended, o.reason, o.alone, o.due, o.is_unknown,
                            nullif(o.extra, ''), CASE WHEN nullif(o.extra, '')::json ->> 'renews' = 'true' THEN o.args END) THEN
                lost := lost || o.id;
            END IF;
        END LOOP;
    END IF;
    PERFORM @drop_edges(app_, ids, turn, now);
    RETURN lost;
END $f$;

-- The same for what succeeds at once: fewer values to carry. NULL when one of them was not written so.
CREATE OR REPLACE FUNCTION @end_simple(app_ bigint, now bigint, who text, ids text[], attempts bigint[], payloads bytea[], started_ bigint[], ended_ bigint[],
                                       reacts boolean, turn boolean)
RETURNS text[] LANGUAGE plpgsql AS $f$
DECLARE
    seqs bigint[] := ARRAY(SELECT (SELECT s.seq FROM @inv s WHERE s.app = app_ AND s.id = u) FROM unnest(ids) u);
    pos jsonb := (SELECT jsonb_object_agg(u.id, u.n ORDER BY u.n DESC) FROM unnest(ids) WITH ORDINALITY u (id, n));
    n integer := 0;
    o record;
    lost text[] := '{}';
BEGIN
    UPDATE @inv i SET place = P_FINAL, status = S_SUCCESS, payload = payloads[(pos ->> i.id)::integer], retries = 0, crashes = 0, reason = '', alone = false,
            started = coalesce(nullif(started_[(pos ->> i.id)::integer], 0), i.started),
            ended = coalesce(nullif(ended_[(pos ->> i.id)::integer], 0), now),
            gone = CASE WHEN i.result_ttl > 0 THEN coalesce(nullif(ended_[(pos ->> i.id)::integer], 0), now) + i.result_ttl END
        WHERE i.seq = ANY (seqs) AND i.attempt = attempts[(pos ->> i.id)::integer] AND i.runner IS NOT DISTINCT FROM who AND i.place + 0 = P_CLAIMED AND i.held IS NULL
            AND NOT reacts;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n < cardinality(ids) THEN
        FOR o IN SELECT * FROM unnest(ids, attempts, payloads, started_, ended_) AS u (id, attempt, payload, started, ended) LOOP
            IF NOT @end_one(app_, now, who, o.id, o.attempt, S_SUCCESS, o.payload, 0, 0, o.started, o.ended, '', false, 0, false, NULL, NULL) THEN
                lost := lost || o.id;
            END IF;
        END LOOP;
    END IF;
    PERFORM @drop_edges(app_, ids, turn, now);
    RETURN lost;
END $f$;

-- Who waited or was waited for does no more, if it is final; what was suspended until then goes on.
CREATE OR REPLACE FUNCTION @drop_edges(app_ bigint, ids text[], turn boolean, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    id_ text;
BEGIN
    IF EXISTS (SELECT 1 FROM @edge WHERE app = app_) THEN
        FOR id_ IN SELECT u.id FROM unnest(ids) WITH ORDINALITY u (id, n) WHERE EXISTS (SELECT 1 FROM @edge e WHERE e.app = app_ AND e.awaited = u.id AND e.asleep OFFSET 0)
            AND EXISTS (SELECT 1 FROM @inv i WHERE i.app = app_ AND i.id = u.id AND i.place = P_FINAL OFFSET 0) ORDER BY u.n
        LOOP
            IF NOT turn THEN
                -- It was suspended since we looked. The turn must not be waited for while rows are held, so all is done again.
                RAISE EXCEPTION 'somebody was suspended until this ends' USING ERRCODE = '40001';
            END IF;
            PERFORM @settle_waits(app_, id_, now);
        END LOOP;
        DELETE FROM @edge e WHERE e.app = app_ AND e.awaited = ANY (ids)
            AND EXISTS (SELECT 1 FROM @inv i WHERE i.app = app_ AND i.id = e.awaited AND i.place = P_FINAL OFFSET 0);
        DELETE FROM @edge e WHERE e.app = app_ AND e.waiter = ANY (ids)
            AND EXISTS (SELECT 1 FROM @inv i WHERE i.app = app_ AND i.id = e.waiter AND i.place = P_FINAL OFFSET 0);
    END IF;
END $f$;

-- Finish and claim. The first row has no id: in "blobs" the lost ids, in "tags" the ids that a claim or a change of others has ended, in "claimed" when the next
-- row is due, in "alone" whether there are suspects, in "attempt" how many rows may have become claimable, in "round" who sleeps, in "created" the time;
-- and, while somebody waits, what a single small success is told with: its task in "queue", its result in "args", its round in "crashes".
CREATE OR REPLACE FUNCTION @cycle(
    app_ bigint, at_ bigint, who text,
    ids text[], attempts bigint[], statuses bigint[], payloads bytea[], retries_ bigint[], crashes_ bigint[], started_ bigint[], ended_ bigint[],
    reasons text[], alones boolean[], dues bigint[], unknowns boolean[], extras text[], news bytea[], wants_turn boolean,
    claims boolean, claimer text, lim bigint, asked text[], mosts bigint[], named text[], alone_ boolean, aged boolean, without_ text[], hint bigint, me text
) RETURNS SETOF @claimed LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_sort = off SET enable_bitmapscan = off AS $f$
DECLARE
    now bigint := CASE WHEN at_ > 0 THEN at_ ELSE (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END;
    names text[];
    stocked text[];
    turn boolean := wants_turn;
    reacts boolean := false;
    first_timer bigint;
    has_special boolean := false;
    has_ranked boolean;
    is_due boolean := false;
    got bigint := 0;
    n bigint;
    head @claimed;
BEGIN
    head.blobs := '{}';
    head.tags := '{}';
    head.created := now;
    head.claimed := 0;
    head.alone := false;
    head.attempt := 0;
    head.round := 0;
    IF claims THEN
        IF NOT EXISTS (SELECT 1 FROM @runner WHERE app = app_ AND id = claimer AND death IS NULL) THEN
            RAISE EXCEPTION 'lost' USING ERRCODE = 'PN001', DETAIL = to_json(claimer);
        END IF;
        -- All that a claim must know of its queues, in one look.
        SELECT array_agg(q.name), min(t.timer),
            bool_or(EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q.name AND place = P_READY AND special)),
            bool_or(EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q.name AND place = P_READY AND alone)),
            bool_or(EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q.name AND place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone))
        INTO names, first_timer, has_special, head.alone, has_ranked
        FROM @queue q LEFT JOIN LATERAL (SELECT timer FROM @inv WHERE app = app_ AND queue = q.name AND timer IS NOT NULL ORDER BY timer LIMIT 1) t ON true
        WHERE q.app = app_ AND q.state <> 'paused' AND (cardinality(asked) = 0 OR q.name = ANY (asked));
        head.claimed := coalesce(first_timer, 0);
        head.alone := coalesce(head.alone, false);
        is_due := coalesce(first_timer <= now, false);
        turn := turn OR has_special OR (is_due AND @claim_needs_turn(app_, names, now));
    END IF;
    IF cardinality(ids) > 0 THEN
        -- All that the end of these may concern, in one look.
        SELECT EXISTS (SELECT 1 FROM @reaction WHERE app = app_), turn OR EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND runner = who AND place = P_CLAIMED AND held IS NOT NULL)
            OR EXISTS (SELECT 1 FROM @edge WHERE app = app_ AND awaited = ANY (ids) AND asleep)
        INTO reacts, turn;
        IF reacts THEN
            reacts := @outcomes_react(app_, ids, statuses);
            turn := turn OR reacts;
        END IF;
    ELSE
        -- A claim that a power cut undoes only makes the work claimable again.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    IF turn THEN
        PERFORM @take_turn(app_);
        now := @time(at_);
    END IF;
    IF cardinality(ids) > 0 THEN
        IF cardinality(statuses) = 0 THEN
            head.blobs := @end_simple(app_, now, who, ids, attempts, payloads, started_, ended_, reacts, turn);
        ELSE
            head.blobs := @end_all(app_, now, who, ids, attempts, statuses, payloads, retries_, crashes_, started_, ended_, reasons, alones, dues, unknowns, extras, news,
                                   reacts, turn);
        END IF;
        IF turn THEN
            PERFORM @react(app_, now);
        END IF;
    END IF;
    stocked := names;
    IF claims AND cardinality(names) > 1 AND NOT (turn OR is_due OR alone_ OR aged OR cardinality(named) > 0) THEN
        -- Most often all but one of several queues are empty.
        stocked := ARRAY(SELECT q FROM unnest(names) q
            WHERE EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q AND place = P_READY AND rank = 0 AND boost = 0 AND NOT alone)
            OR has_ranked AND EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q AND place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone));
    END IF;
    IF claims AND cardinality(stocked) > 0 THEN
        IF turn OR is_due OR alone_ OR aged OR cardinality(stocked) > 1 OR cardinality(named) > 0 THEN
            RETURN QUERY SELECT * FROM @claim_batch(app_, now, claimer, lim, asked, mosts, stocked, named, alone_, aged, without_, hint, turn);
            SELECT coalesce(min(x.timer), 0) INTO head.claimed FROM unnest(names) q, LATERAL (
                SELECT timer FROM @inv WHERE app = app_ AND queue = q AND timer IS NOT NULL ORDER BY timer LIMIT 1) x;
            head.alone := EXISTS (SELECT 1 FROM unnest(names) q WHERE (SELECT true FROM @inv WHERE app = app_ AND queue = q AND place = P_READY AND alone ORDER BY rank DESC, boost DESC, seq LIMIT 1));
        ELSE
            -- The usual claim: one queue, nothing special in it. Written without other functions where it can be.
            lim := least(lim, mosts[array_position(asked, stocked[1])]);
            LOOP
                IF has_ranked THEN
                    RETURN QUERY SELECT * FROM @take_ranked(app_, now, claimer, stocked[1], lim - got, without_, hint);
                ELSE
                    RETURN QUERY UPDATE @inv i SET place = P_CLAIMED, status = S_PENDING, attempt = i.attempt + 1, runner = claimer, claimed = now, started = 0
                        WHERE i.seq = ANY (ARRAY(
                            SELECT p.seq FROM @inv p WHERE p.app = app_ AND p.queue = stocked[1] AND p.place = P_READY AND p.rank = 0 AND p.boost = 0
                                AND NOT p.alone AND p.seq > hint AND NOT p.special AND p.task <> ALL (without_)
                                ORDER BY p.seq LIMIT lim - got FOR UPDATE SKIP LOCKED))
                        RETURNING i.id, i.task, i.attempt, i.args, i.blobs, i.queue, i.priority, i.retries, i.crashes, i.max_crashes, i.round, i.timeout,
                            i.created, i.claimed, i.parent, i.workflow, i.workflow_type, i.workflow_parent, i.tags, i.alone, i.seq, i.rank, i.boost;
                END IF;
                GET DIAGNOSTICS n = ROW_COUNT;
                got := got + n;
                -- Whatever the hint has hidden comes at the end.
                EXIT WHEN hint = 0 OR got >= lim;
                hint := 0;
            END LOOP;
        END IF;
    END IF;
    IF turn THEN
        PERFORM @react(app_, now);
    END IF;
    IF turn OR is_due THEN
        head.tags := @told();
        head.attempt := @stirred();
    END IF;
    IF head.attempt > 0 OR cardinality(ids) > 0 OR cardinality(head.tags) > 0 THEN
        head.round := @sleepers(app_, me);
        IF head.round & 2 > 0 AND cardinality(ids) = 1 THEN
            SELECT i.task, i.payload, i.round INTO head.queue, head.args, head.crashes FROM @inv i
                WHERE i.app = app_ AND i.id = ids[1] AND i.place = P_FINAL AND i.status = S_SUCCESS AND i.reason = '' AND length(i.payload) <= 1024;
        END IF;
    END IF;
    RETURN NEXT head;
END $f$;

-- PENDING -> RUNNING; which of them are lost, counted from 1.
CREATE OR REPLACE FUNCTION @start(app_ bigint, who text, ids text[], attempts bigint[], at_ bigint) RETURNS bigint[] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_sort = off AS $f$
DECLARE
    seqs bigint[] := ARRAY(SELECT (SELECT s.seq FROM @inv s WHERE s.app = app_ AND s.id = u) FROM unnest(ids) u);
    pos jsonb := (SELECT jsonb_object_agg(u.id, u.n ORDER BY u.attempt, u.n) FROM unnest(ids, attempts) WITH ORDINALITY u (id, attempt, n));
    n integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE @inv i SET status = S_RUNNING, started = at_
        WHERE i.seq = ANY (seqs) AND i.attempt = attempts[(pos ->> i.id)::integer] AND i.runner IS NOT DISTINCT FROM who AND i.place + 0 = P_CLAIMED AND i.status = S_PENDING;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n = cardinality(ids) THEN
        RETURN '{}';
    END IF;
    RETURN (SELECT coalesce(array_agg(u.n), '{}') FROM unnest(ids, attempts) WITH ORDINALITY u (id, attempt, n) WHERE NOT EXISTS (
        SELECT 1 FROM @inv i WHERE i.app = app_ AND i.id = u.id AND i.attempt = u.attempt AND i.runner IS NOT DISTINCT FROM who AND i.place + 0 = P_CLAIMED OFFSET 0));
END $f$;

-- Keep what bodies say of their progress; which of them are lost, counted from 1.
CREATE OR REPLACE FUNCTION @report(app_ bigint, who text, ids text[], attempts bigint[], values_ bytea[]) RETURNS bigint[] LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_sort = off AS $f$
DECLARE
    seqs bigint[] := ARRAY(SELECT (SELECT s.seq FROM @inv s WHERE s.app = app_ AND s.id = u) FROM unnest(ids) u);
    pos jsonb := (SELECT jsonb_object_agg(u.id, u.n ORDER BY u.attempt, u.n) FROM unnest(ids, attempts) WITH ORDINALITY u (id, attempt, n));
    n integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE @inv i SET progress = values_[(pos ->> i.id)::integer]
        WHERE i.seq = ANY (seqs) AND i.attempt = attempts[(pos ->> i.id)::integer] AND i.runner IS NOT DISTINCT FROM who AND i.place + 0 = P_CLAIMED;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n = cardinality(ids) THEN
        RETURN '{}';
    END IF;
    RETURN (SELECT coalesce(array_agg(u.n), '{}') FROM unnest(ids, attempts) WITH ORDINALITY u (id, attempt, n) WHERE NOT EXISTS (
        SELECT 1 FROM @inv i WHERE i.app = app_ AND i.id = u.id AND i.attempt = u.attempt AND i.runner IS NOT DISTINCT FROM who AND i.place + 0 = P_CLAIMED OFFSET 0));
END $f$;
