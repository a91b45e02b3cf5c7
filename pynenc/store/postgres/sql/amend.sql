-- What people do to invocations, and what waiting does to those that are waited for.

CREATE OR REPLACE FUNCTION @amend(app_ bigint, at_ bigint, ids text[], kind text, reason_ text, priority_ float8, value_ bytea, attempt_ bigint)
RETURNS TABLE (id_ text, accepted boolean, status_ smallint) LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint := @time(at_);
BEGIN
    PERFORM @take_turn(app_);
    now := @time(at_);
    FOREACH id_ IN ARRAY ids LOOP
        accepted := @amend_one(app_, now, id_, kind, reason_, priority_, value_, attempt_);
        status_ := (SELECT status FROM @inv WHERE app = app_ AND id = id_);
        RETURN NEXT;
    END LOOP;
    PERFORM @react(app_, now);
END $f$;

CREATE OR REPLACE FUNCTION @amend_one(app_ bigint, now bigint, id_ text, kind text, reason_ text, priority_ float8, value_ bytea, attempt_ bigint)
RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    r @inv;
BEGIN
    SELECT * INTO r FROM @inv WHERE app = app_ AND id = id_ FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF kind = 'requeue' THEN
        RETURN @requeue(r, reason_, now);
    ELSIF r.place = P_FINAL THEN
        RETURN false;
    ELSIF kind = 'reprioritise' THEN
        r.priority := priority_;
        r.rank := greatest(priority_, (SELECT max(i.rank) FROM @edge e JOIN @inv i ON i.app = app_ AND i.id = e.waiter WHERE e.app = app_ AND e.awaited = id_));
        PERFORM @save(r);
        PERFORM @raise_awaited(app_, ARRAY[id_], '{}', r.rank, 0);
    ELSIF kind = 'resume' THEN
        RETURN CASE WHEN attempt_ IN (0, r.attempt) THEN @resume(r, reason_, value_, now) ELSE false END;
    ELSIF kind = 'signal' THEN
        PERFORM @signal(r, reason_, value_, now);
    ELSIF r.place = P_CLAIMED THEN
        r.reason := CASE WHEN r.cancel THEN r.reason ELSE reason_ END;
        r.cancel := true;
        PERFORM @save(r);
    ELSE
        PERFORM @finalize(r, S_CANCELLED, reason_, '', 0, now);
    END IF;
    RETURN true;
END $f$;

-- A final begins a new round; what waits for its time is due now. What waits for its rate waits on.
CREATE OR REPLACE FUNCTION @requeue(r @inv, reason_ text, now bigint) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    IF r.place = P_FINAL THEN
        r := @note(r, S_REGISTERED, now, NULL, r.round + 1, reason_, '');
        r := @next_round(r);
        r.status := S_REGISTERED; r.place := P_WAITING; r.due := 0; r.alone := false; r.cancel := false; r.ended := 0;
        r.runner := NULL; r.payload := NULL; r.reason := reason_; r.gone := NULL;
    ELSIF r.place = P_LATER AND r.due > now THEN
        r.due := 0;
    ELSE
        RETURN false;
    END IF;
    PERFORM @save(@admit(r, r.status, now));
    RETURN true;
END $f$;

CREATE OR REPLACE FUNCTION @resume(r @inv, reason_ text, value_ bytea, now bigint) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    IF r.place <> P_WAITING THEN
        RETURN false;
    END IF;
    PERFORM @keep(r, 'resume:' || r.attempt, value_);
    PERFORM @rouse(r, coalesce(nullif(reason_, ''), 'resumed'), now);
    RETURN true;
END $f$;

CREATE OR REPLACE FUNCTION @signal(r @inv, reason_ text, value_ bytea, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    PERFORM @keep(r, @signal_key(r.signals), value_);
    r.signals := r.signals + 1;
    IF r.place = P_WAITING AND r.seen IS NOT NULL THEN
        PERFORM @rouse(r, coalesce(nullif(reason_, ''), 'signalled'), now);
    ELSE
        PERFORM @save(r);
    END IF;
END $f$;

-- Remember a value in the scope of an invocation.
CREATE OR REPLACE FUNCTION @keep(r @inv, key_ text, value_ bytea) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    INSERT INTO @memo (app, scope, key, value) VALUES (r.app, r.id, key_, value_) ON CONFLICT (app, scope, key) DO UPDATE SET value = excluded.value;
END $f$;

-- Raise rank and boost of all that "waiters" wait for, directly or through others; with "only" begin with these alone.
CREATE OR REPLACE FUNCTION @raise_awaited(app_ bigint, waiters text[], only_ text[], rank_ float8, boost_ bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    seen text[] := waiters;
    level text[] := only_;
BEGIN
    IF cardinality(only_) = 0 THEN
        level := (SELECT coalesce(array_agg(awaited), '{}') FROM @edge WHERE app = app_ AND waiter = ANY (waiters));
    END IF;
    WHILE cardinality(level) > 0 LOOP
        PERFORM @raise(app_, level, rank_, boost_);
        seen := seen || level;
        level := (SELECT coalesce(array_agg(DISTINCT awaited), '{}') FROM @edge WHERE app = app_ AND waiter = ANY (level) AND awaited <> ALL (seen));
    END LOOP;
END $f$;

-- Rows are locked in the order of their ids, as finishing them does.
CREATE OR REPLACE FUNCTION @raise(app_ bigint, ids text[], rank_ float8, boost_ bigint) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    PERFORM 1 FROM @inv WHERE app = app_ AND id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
    UPDATE @inv SET rank = greatest(rank, rank_), boost = greatest(boost, boost_) WHERE app = app_ AND id = ANY (ids) AND place < P_FINAL;
END $f$;

-- Those of some ids that are not final, and whether each waits for something itself: only that can close a circle.
CREATE OR REPLACE FUNCTION @unfinished(app_ bigint, ids text[]) RETURNS TABLE (id_ text, blocked boolean) LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY SELECT i.id, (i.running_key IS NOT NULL AND i.held IS NULL AND NOT i.drop_blocked)
            OR EXISTS (SELECT 1 FROM @edge e WHERE e.app = app_ AND e.waiter = i.id)
        FROM @inv i WHERE i.app = app_ AND i.id = ANY (ids) AND i.place < P_FINAL;
END $f$;

-- Record that a claimed invocation waits for others, and raise these; then claim. The last row is that of "cycle"; its id tells what came of the wait:
-- "over" (nothing to wait for), "blocked" (nothing was done: a circle must be ruled out first) or "waits".
CREATE OR REPLACE FUNCTION @wait(
    app_ bigint, at_ bigint, waiter_ text, attempt_ bigint, ids text[], is_checked boolean,
    claims boolean, claimer text, lim bigint, asked text[], mosts bigint[], named text[], alone_ boolean, aged boolean, without_ text[], me text
) RETURNS SETOF @claimed LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off SET enable_sort = off SET enable_bitmapscan = off AS $f$
DECLARE
    now bigint := @time(at_);
    head @claimed;
    rank_ float8;
    found_ text[];
    any_blocked boolean;
    names text[];
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM @take_turn(app_);
    now := @time(at_);
    IF claims AND @is_lost(app_, claimer) THEN
        RAISE EXCEPTION 'lost' USING ERRCODE = 'PN001', DETAIL = to_json(claimer);
    END IF;
    -- In the order of ids, as finishing locks them: nothing that is looked at here can end in the meantime.
    PERFORM 1 FROM @inv WHERE app = app_ AND id = ANY (ids || waiter_) ORDER BY id FOR NO KEY UPDATE;
    head.tags := '{}'; head.blobs := '{}'; head.attempt := 0; head.round := 0; head.claimed := 0; head.alone := false; head.created := now; head.task := 'over';
    SELECT rank INTO rank_ FROM @inv WHERE app = app_ AND id = waiter_ AND attempt = attempt_ AND place = P_CLAIMED;
    IF NOT FOUND THEN
        RETURN NEXT head;
        RETURN;
    END IF;
    SELECT coalesce(array_agg(u.id_), '{}'), coalesce(bool_or(u.blocked OR u.id_ = waiter_), false) INTO found_, any_blocked FROM @unfinished(app_, ids) u;
    IF any_blocked AND NOT is_checked THEN
        head.task := 'blocked';
        RETURN NEXT head;
        RETURN;
    END IF;
    INSERT INTO @edge (app, waiter, awaited) SELECT app_, waiter_, f FROM unnest(found_) f ON CONFLICT DO NOTHING;
    IF any_blocked THEN
        PERFORM @raise_awaited(app_, ARRAY[waiter_], found_, rank_, now);
    ELSE
        UPDATE @inv SET rank = greatest(rank, rank_), boost = greatest(boost, now) WHERE app = app_ AND id = ANY (found_) AND place < P_FINAL;
    END IF;
    IF cardinality(found_) = (SELECT count(DISTINCT u) FROM unnest(ids) u) THEN
        head.task := 'waits';
        IF claims THEN
            names := @open_queues(app_, asked);
            RETURN QUERY SELECT * FROM @claim_batch(app_, now, claimer, lim, asked, mosts, names, named, alone_, aged, without_, 0, true);
            SELECT coalesce(min(x.timer), 0) INTO head.claimed FROM unnest(names) q, LATERAL (
                SELECT timer FROM @inv WHERE app = app_ AND queue = q AND timer IS NOT NULL ORDER BY timer LIMIT 1) x;
            head.alone := EXISTS (SELECT 1 FROM unnest(names) q WHERE (SELECT true FROM @inv WHERE app = app_ AND queue = q AND place = P_READY AND alone ORDER BY rank DESC, boost DESC, seq LIMIT 1));
            PERFORM @react(app_, now);
        END IF;
    END IF;
    head.tags := @told();
    head.attempt := @stirred();
    IF head.attempt > 0 OR cardinality(head.tags) > 0 THEN
        head.round := @sleepers(app_, me);
    END IF;
    RETURN NEXT head;
END $f$;

-- Forget the edges of a wait.
CREATE OR REPLACE FUNCTION @stop_waiting(app_ bigint, waiter_ text, attempt_ bigint, ids text[]) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM @edge WHERE app = app_ AND waiter = waiter_ AND awaited = ANY (ids)
        AND EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND id = waiter_ AND attempt = attempt_ AND place = P_CLAIMED);
END $f$;
