-- Suspended invocations: what they wait for, what wakes them, continuing as new. Only done by who has the turn of the app.

-- Keep a row that has left PAUSED until what it waits for is there; that may be now. What is awaited is locked, so it does not end meanwhile.
CREATE OR REPLACE FUNCTION @suspend(r @inv, extra json, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
DECLARE
    awaits text[];
    found_ text[];
    suspects text[];
    known integer;
BEGIN
    IF extra IS NULL THEN
        RETURN r;
    END IF;
    awaits := ARRAY(SELECT DISTINCT json_array_elements_text(extra -> 'awaits'));
    known := (extra ->> 'signals')::integer;
    SELECT coalesce(array_agg(u.id_), '{}'), coalesce(array_agg(u.id_) FILTER (WHERE u.blocked OR u.id_ = r.id), '{}') INTO found_, suspects
        FROM @unfinished(r.app, awaits) u;
    IF cardinality(found_) < cardinality(awaits) OR (0 <= known AND known < r.signals)
        OR EXISTS (SELECT 1 FROM unnest(suspects) s WHERE @never_ends(r.app, r.id, s))
    THEN
        RETURN @rouse(r, '', now);
    END IF;
    r.seen := CASE WHEN known >= 0 THEN known END;
    IF cardinality(found_) > 0 THEN
        INSERT INTO @edge (app, waiter, awaited, asleep) SELECT r.app, r.id, f, true FROM unnest(found_) f ON CONFLICT (app, waiter, awaited) DO UPDATE SET asleep = true;
        PERFORM @raise_awaited(r.app, ARRAY[r.id], found_, r.rank, now);
    END IF;
    RETURN r;
END $f$;

-- Admit a suspended row: what it waits for is there, or somebody wants it to go on.
CREATE OR REPLACE FUNCTION @rouse(r @inv, reason_ text, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
BEGIN
    r := @note(r, S_REGISTERED, now, NULL, r.round, reason_, '');
    r.status := S_REGISTERED;
    r.due := 0;
    r.seen := NULL;
    DELETE FROM @edge WHERE app = r.app AND waiter = r.id;
    r := @admit(r, S_REGISTERED, now);
    PERFORM @save(r);
    RETURN r;
END $f$;

-- An invocation is final: nobody waits for it any more, and what was suspended until then goes on.
CREATE OR REPLACE FUNCTION @settle_waits(app_ bigint, id_ text, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    asleep_ text[];
    r @inv;
BEGIN
    asleep_ := ARRAY(SELECT waiter FROM @edge WHERE app = app_ AND awaited = id_ AND asleep);
    DELETE FROM @edge WHERE app = app_ AND awaited = id_;
    IF cardinality(asleep_) > 0 THEN
        FOR r IN SELECT * FROM @inv WHERE app = app_ AND id = ANY (asleep_) AND place = P_WAITING ORDER BY seq FOR UPDATE LOOP
            PERFORM @rouse(r, 'what it waited for has ended', now);
        END LOOP;
    END IF;
END $f$;

-- Whether a wait would close a circle: then the waiter is not in the least set of those that wait for nothing, grown by whatever all its wait edges, and
-- one of its key edges if it has any, lead into (see pynenc.core.waiting). Those that wait for nothing are left out from the beginning.
CREATE OR REPLACE FUNCTION @never_ends(app_ bigint, waiter_ text, awaited_ text) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    nodes text[] := ARRAY[waiter_];
    level text[] := ARRAY[waiter_];
    froms text[] := ARRAY[waiter_];  -- wait edges
    tos text[] := ARRAY[awaited_];
    keyed text[] := '{}';            -- key edges
    holders text[] := '{}';
    ends text[] := '{}';
    more_froms text[];
    more_tos text[];
BEGIN
    WHILE cardinality(level) > 0 LOOP
        SELECT coalesce(array_agg(e.waiter), '{}'), coalesce(array_agg(e.awaited), '{}') INTO more_froms, more_tos
            FROM @edge e, LATERAL @unfinished(app_, ARRAY[e.awaited]) u WHERE e.app = app_ AND e.waiter = ANY (level) AND (u.blocked OR u.id_ = waiter_);
        froms := froms || more_froms;
        tos := tos || more_tos;
        SELECT coalesce(array_agg(n.id), '{}'), coalesce(array_agg(h.id), '{}') INTO more_froms, more_tos
            FROM @inv n JOIN @inv h ON h.app = app_ AND h.held = n.running_key
            WHERE n.app = app_ AND n.id = ANY (level) AND n.place < P_FINAL AND n.held IS NULL AND NOT n.drop_blocked
                AND (n.why = W_KEY OR @is_full(app_, n.running_key, n.running_limit));
        keyed := keyed || more_froms;
        holders := holders || more_tos;
        level := ARRAY(SELECT DISTINCT t FROM unnest(tos || holders) t WHERE t <> ALL (nodes));
        nodes := nodes || level;
    END LOOP;
    LOOP
        level := ARRAY(SELECT n FROM unnest(nodes) n WHERE n <> ALL (ends)
            AND NOT EXISTS (SELECT 1 FROM unnest(froms, tos) e (f, t) WHERE e.f = n AND e.t <> ALL (ends))
            AND (n <> ALL (keyed) OR EXISTS (SELECT 1 FROM unnest(keyed, holders) e (f, t) WHERE e.f = n AND e.t = ANY (ends))));
        EXIT WHEN cardinality(level) = 0 OR waiter_ = ANY (level);
        ends := ends || level;
    END LOOP;
    RETURN cardinality(level) = 0;
END $f$;

-- The key under which a signal is remembered; keys sort as numbers do.
CREATE OR REPLACE FUNCTION @signal_key(n integer) RETURNS text LANGUAGE sql IMMUTABLE AS $f$
    SELECT 'signal:' || lpad(greatest(0, n)::text, 9, '0')
$f$;

-- Count a new round; what was remembered in the old one goes.
CREATE OR REPLACE FUNCTION @next_round(r @inv) RETURNS @inv LANGUAGE plpgsql AS $f$
BEGIN
    DELETE FROM @memo WHERE app = r.app AND scope = r.id || '/' || r.round;
    r.round := r.round + 1;
    r.retries := 0;
    r.crashes := 0;
    r.started := 0;
    RETURN r;
END $f$;

-- A row continues as new: a new round with other arguments.
CREATE OR REPLACE FUNCTION @renew(r @inv, args_ bytea, extra json, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
DECLARE
    blobs_ text[] := ARRAY(SELECT DISTINCT json_array_elements_text(extra -> 'blobs'));
BEGIN
    UPDATE @blob SET seen = greatest(seen, now) WHERE app = r.app AND key = ANY (r.blobs || blobs_);
    DELETE FROM @ref WHERE app = r.app AND key = ANY (r.blobs) AND seq = r.seq;
    INSERT INTO @ref (app, key, seq) SELECT r.app, b, r.seq FROM unnest(blobs_) b;
    r.args := args_;
    r.blobs := CASE WHEN cardinality(blobs_) > 0 THEN ARRAY(SELECT json_array_elements_text(extra -> 'blobs')) END;
    UPDATE @inv SET args = r.args, blobs = r.blobs WHERE seq = r.seq;
    DELETE FROM @memo WHERE app = r.app AND scope = r.id AND (key >= 'resume:' AND key < 'resume;'
        OR key >= 'signal:' AND key < @signal_key((extra ->> 'signals')::integer));
    RETURN @next_round(r);
END $f$;
