-- Submission: new rows, or the invocations that stand in for them.

CREATE OR REPLACE FUNCTION @put_blobs(app_ bigint, now bigint, keys text[], sizes bigint[], data_ bytea[]) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    INSERT INTO @blob AS b (app, key, size, seen, data) SELECT DISTINCT ON (u.key) app_, u.key, u.size, now, u.data
        FROM unnest(keys, sizes, data_) AS u (key, size, data) ORDER BY u.key
        ON CONFLICT (app, key) DO UPDATE SET seen = greatest(b.seen, excluded.seen);
END $f$;

-- Refuse calls whose blobs are not there. Those that are get younger, now and then: a purge that begins now must not take them.
CREATE OR REPLACE FUNCTION @need_blobs(app_ bigint, now bigint, keys text[]) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    missing text[];
BEGIN
    UPDATE @blob SET seen = now WHERE app = app_ AND key = ANY (keys) AND seen < now - 60000000;
    SELECT array_agg(DISTINCT k) INTO missing FROM unnest(keys) k WHERE NOT EXISTS (SELECT 1 FROM @blob WHERE app = app_ AND key = k);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing blobs' USING ERRCODE = 'PN002', DETAIL = to_json(missing);
    END IF;
END $f$;

-- Whether a queue takes calls of a parent; makes the queue known.
CREATE OR REPLACE FUNCTION @takes_calls(app_ bigint, queue_ text, parent_ text) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    state_ text;
BEGIN
    SELECT state INTO state_ FROM @queue WHERE app = app_ AND name = queue_;
    IF NOT FOUND THEN
        INSERT INTO @queue (app, name) VALUES (app_, queue_) ON CONFLICT (app, name) DO NOTHING;
        RETURN true;
    END IF;
    RETURN state_ <> 'draining' OR EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND id = parent_ AND place = P_CLAIMED);
END $f$;

-- Calls that differ only in id and arguments, with neither keys nor rates: one statement for all. A number tells who sleeps; when something was there
-- already, the JSON of [id, status, whether this call made it, digest] of all follows it. Written without other functions: this is the way of every call.
CREATE OR REPLACE FUNCTION @submit_alike(
    app_ bigint, at_ bigint, task_ text, queue_ text, priority_ float8, due_ bigint, expires_ bigint, max_crashes_ bigint, result_ttl_ bigint, timeout_ bigint,
    parent_ text, workflow_ text, workflow_type_ text, workflow_parent_ text, tags_ text[], blobs_ text[],
    ids text[], args_ bytea[], me text
) RETURNS text LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint := CASE WHEN at_ > 0 THEN at_ ELSE (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END;
    first bigint;
    n integer;
    is_later boolean := due_ > now;
    sleepers integer := 0;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM @queue WHERE app = app_ AND name = queue_ AND state <> 'draining') AND NOT @takes_calls(app_, queue_, parent_) THEN
        -- What is there already is answered all the same.
        IF EXISTS (SELECT 1 FROM unnest(ids) u WHERE NOT EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND id = u)) THEN
            RAISE EXCEPTION 'draining' USING ERRCODE = 'PN003', DETAIL = json_build_array(queue_, task_);
        END IF;
    END IF;
    IF cardinality(blobs_) > 0 THEN
        PERFORM @need_blobs(app_, now, blobs_);
    END IF;
    IF cardinality(ids) > 1 THEN
        first := nextval('@submission');
    END IF;
    INSERT INTO @inv (app, id, task, queue, place, priority, rank, created, due, timer, expires, special, max_crashes, result_ttl, timeout,
                      parent, workflow, workflow_type, workflow_parent, tags, blobs, args)
        SELECT app_, u.id, task_, queue_, CASE WHEN is_later THEN P_LATER ELSE P_READY END, priority_, priority_, now, due_,
               CASE WHEN is_later THEN due_ END, expires_, expires_ > 0, max_crashes_, result_ttl_, timeout_,
               nullif(parent_, ''), nullif(workflow_, ''), nullif(workflow_type_, ''), nullif(workflow_parent_, ''),
               CASE WHEN cardinality(tags_) > 0 THEN tags_ END, CASE WHEN cardinality(blobs_) > 0 THEN blobs_ END, u.args
        FROM unnest(ids, args_) AS u (id, args)
        ON CONFLICT (app, id) DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF cardinality(blobs_) > 0 THEN
        INSERT INTO @ref (app, key, seq) SELECT app_, b, i.seq FROM @inv i, unnest(blobs_) b WHERE i.app = app_ AND i.id = ANY (ids) ON CONFLICT DO NOTHING;
    END IF;
    IF me <> '' THEN  -- otherwise a part of the caller's own transaction, which notifies in any case and must keep nobody waiting
        PERFORM pg_advisory_xact_lock_shared(LOCK_BOARD, app_::integer);  -- see "sleepers"
        SELECT coalesce(bit_or(CASE idle WHEN 0 THEN 0 WHEN 1 THEN 1 ELSE 4 END + CASE WHEN waits THEN 2 ELSE 0 END), 0) INTO sleepers
            FROM @board WHERE app = app_ AND id <> me;
    END IF;
    IF n = cardinality(ids) THEN
        RETURN sleepers;
    END IF;
    RETURN sleepers || (SELECT json_agg(json_build_array(i.id, i.status, n > 0 AND i.seq > first AND i.xmin = pg_current_xact_id()::xid, i.args_digest))
        FROM @inv i WHERE i.app = app_ AND i.id = ANY (ids))::text;
END $f$;

-- Calls of any kind, one by one, each answered by what is there or inserted where its key and rate put it. "calls" is a JSON list of objects, arguments apart.
-- Without "me" they are a part of the caller's own transaction, which may last: it does not take the turn of the app, and leaves keys and rates to the
-- claim, for which these calls are due at once.
CREATE OR REPLACE FUNCTION @submit(app_ bigint, at_ bigint, calls json, args_ bytea[], lim bigint, me text)
RETURNS TABLE (id_ text, status_ smallint, is_old boolean, digest_ text, sleepers integer) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $f$
DECLARE
    now bigint := @time(at_);
    needed text[];
    call record;
    r @inv;
BEGIN
    IF me <> '' THEN
        PERFORM @take_turn(app_);
        now := @time(at_);
    END IF;
    SELECT array_agg(DISTINCT b) INTO needed FROM json_array_elements(calls) c, json_array_elements_text(c -> 'blobs') b;
    IF needed IS NOT NULL THEN
        PERFORM @need_blobs(app_, now, needed);
    END IF;
    FOR call IN SELECT x.*, u.args FROM json_populate_recordset(NULL::@call, calls) x JOIN unnest(args_) WITH ORDINALITY AS u (args, at) ON u.at = x.n ORDER BY x.n LOOP
        r := @holder(app_, call);
        is_old := r.id IS NOT DISTINCT FROM call.id;
        IF r.id IS NULL THEN
            r := @insert_one(app_, now, call, lim, me = '', false);
        END IF;
        id_ := r.id; status_ := r.status; digest_ := r.args_digest;
        sleepers := 0;
        RETURN NEXT;
    END LOOP;
    id_ := NULL; status_ := NULL; digest_ := NULL;
    sleepers := CASE WHEN me <> '' THEN @sleepers(app_, me) ELSE 0 END;
    RETURN NEXT;
END $f$;

-- What answers for a call instead of a new row.
CREATE OR REPLACE FUNCTION @holder(app_ bigint, call record) RETURNS @inv LANGUAGE plpgsql AS $f$
DECLARE
    r @inv;
BEGIN
    SELECT * INTO r FROM @inv WHERE app = app_ AND id = call.id;
    IF NOT FOUND AND call.registration_key IS NOT NULL THEN
        SELECT i.* INTO r FROM @registration g JOIN @inv i ON i.seq = g.seq WHERE g.app = app_ AND g.key = call.registration_key;
    END IF;
    IF r.id IS NULL AND call.cache_key IS NOT NULL THEN
        SELECT * INTO r FROM @inv WHERE app = app_ AND cache_key = call.cache_key AND status = S_SUCCESS ORDER BY seq DESC LIMIT 1;
    END IF;
    RETURN r;
END $f$;

-- Insert one call, unless its queue does not take it. A reaction ("is_free") enters any queue.
CREATE OR REPLACE FUNCTION @insert_one(app_ bigint, now bigint, call record, lim bigint, is_joined boolean, is_free boolean) RETURNS @inv LANGUAGE plpgsql AS $f$
DECLARE
    r @inv;
BEGIN
    IF NOT @takes_calls(app_, call.queue, call.parent) AND NOT is_free THEN
        RAISE EXCEPTION 'draining' USING ERRCODE = 'PN003', DETAIL = json_build_array(call.queue, call.task);
    END IF;
    IF lim > 0 AND @waiting(app_, call.queue, lim) >= lim THEN
        RAISE EXCEPTION 'full' USING ERRCODE = 'PN004', DETAIL = json_build_array(call.queue, call.task, lim);
    END IF;
    r := jsonb_populate_record(NULL::@inv, '{"boost": 0, "claimed": 0, "started": 0, "ended": 0, "attempt": 0, "retries": 0, "crashes": 0, "round": 0, "entries": 0, "signals": 0,
        "back": 0, "why": 0, "alone": false, "cancel": false, "reason": "", "status": 0, "place": 4}');
    r.app := app_; r.seq := nextval('@submission'); r.created := now;
    r.id := call.id; r.task := call.task; r.queue := call.queue; r.priority := call.priority; r.rank := call.priority; r.due := call.due;
    r.expires := call.expires; r.registration_key := call.registration_key; r.running_key := call.running_key; r.running_limit := call.running_limit;
    r.drop_blocked := call.drop_blocked; r.rate_key := call.rate_key; r.rate_n := call.rate_n; r.rate_period := call.rate_period;
    r.cache_key := call.cache_key; r.max_crashes := call.max_crashes; r.result_ttl := call.result_ttl; r.timeout := call.timeout; r.parent := call.parent;
    r.workflow := call.workflow; r.workflow_type := call.workflow_type; r.workflow_parent := call.workflow_parent; r.tags := call.tags; r.blobs := call.blobs;
    r.args_digest := call.args_digest; r.args := call.args;
    r.special := call.expires > 0 OR call.drop_blocked OR call.rate_key IS NOT NULL OR call.registration_key IS NOT NULL;
    IF is_joined THEN
        r.place := P_LATER;
        r.timer := greatest(call.due, now);
    ELSE
        r := @admit(r, S_REGISTERED, now);
    END IF;
    INSERT INTO @inv SELECT (r).*;
    IF call.registration_key IS NOT NULL THEN
        INSERT INTO @registration (app, key, seq) VALUES (app_, call.registration_key, r.seq);
    END IF;
    INSERT INTO @ref (app, key, seq) SELECT DISTINCT app_, b, r.seq FROM unnest(call.blobs) b;
    RETURN r;
END $f$;

-- How many wait in a queue, counted no further than the limit.
CREATE OR REPLACE FUNCTION @waiting(app_ bigint, queue_ text, lim bigint) RETURNS bigint LANGUAGE plpgsql AS $f$
BEGIN
    RETURN (SELECT count(*) FROM (
        SELECT 1 FROM @inv WHERE app = app_ AND queue = queue_ AND place = P_READY AND rank = 0 AND boost = 0 AND NOT alone
        UNION ALL SELECT 1 FROM @inv WHERE app = app_ AND queue = queue_ AND place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone
        UNION ALL SELECT 1 FROM @inv WHERE app = app_ AND queue = queue_ AND place = P_READY AND alone
        UNION ALL SELECT 1 FROM @inv WHERE app = app_ AND queue = queue_ AND place = P_LATER AND timer IS NOT NULL
        UNION ALL SELECT 1 FROM @inv WHERE app = app_ AND queue = queue_ AND place = P_PARKED
        LIMIT lim) x);
END $f$;
