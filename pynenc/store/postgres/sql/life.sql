-- What happens to one row: it is admitted, parked, let go, given back, ended.
--
-- A row that is not final, owned or suspended waits for up to three things, in this order: its time, a place of its running key, its turn in the line of its
-- rate. "settle" finds where it stands. What it holds on the way is written in the row itself ("held", "rated"), so nothing can leak: whoever leaves gives both
-- up in "leave", which lets the next ones go in the same transaction.
--
-- All of this is only done by who has the turn of the app (see "take_turn"), on rows that are locked. Functions get a row and give it back changed.

CREATE OR REPLACE FUNCTION @time(at bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $f$
    SELECT CASE WHEN at > 0 THEN at ELSE (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END
$f$;

-- One transaction at a time moves rows that have a key, a rate or anything else that touches other rows.
CREATE OR REPLACE FUNCTION @take_turn(app_ bigint) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    PERFORM pg_advisory_xact_lock(LOCK_TURN, app_::integer);
END $f$;

-- What the transaction means for those who sleep, collected until its end.
CREATE OR REPLACE FUNCTION @stir(n bigint) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    PERFORM set_config('pynenc.ready', (coalesce(nullif(current_setting('pynenc.ready', true), ''), '0')::bigint + n)::text, true);
END $f$;

CREATE OR REPLACE FUNCTION @tell_end(id text) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    PERFORM set_config('pynenc.finals', (coalesce(nullif(current_setting('pynenc.finals', true), ''), '{}')::text[] || id)::text, true);
END $f$;

CREATE OR REPLACE FUNCTION @stirred() RETURNS bigint LANGUAGE sql VOLATILE AS $f$
    SELECT coalesce(nullif(current_setting('pynenc.ready', true), ''), '0')::bigint
$f$;

CREATE OR REPLACE FUNCTION @told() RETURNS text[] LANGUAGE sql VOLATILE AS $f$
    SELECT coalesce(nullif(current_setting('pynenc.finals', true), ''), '{}')::text[]
$f$;

-- Who sleeps behind other store objects than "me": 1 somebody is idle, 2 somebody waits for results, 4 somebody is idle who takes not everything. The shared lock makes whoever marks itself wait until this transaction is over, so
-- that it finds what was done here; without it, a mark and a look could miss each other.
CREATE OR REPLACE FUNCTION @sleepers(app_ bigint, me text) RETURNS integer LANGUAGE plpgsql AS $f$
DECLARE
    found integer;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(LOCK_BOARD, app_::integer);
    SELECT coalesce(bit_or(CASE idle WHEN 0 THEN 0 WHEN 1 THEN 1 ELSE 4 END + CASE WHEN waits THEN 2 ELSE 0 END), 0) INTO found
        FROM @board WHERE app = app_ AND id <> me;
    RETURN found;
END $f$;

CREATE OR REPLACE FUNCTION @signals(app_ bigint, me text) RETURNS TABLE (ready bigint, finals text[], sleepers integer) LANGUAGE plpgsql AS $f$
BEGIN
    RETURN QUERY SELECT @stirred(), @told(), @sleepers(app_, me);
END $f$;

-- The entries of the history that follow from a row itself.
CREATE OR REPLACE FUNCTION @trail(r @inv)
RETURNS TABLE (n integer, status smallint, at bigint, runner text, attempt integer, round integer, reason text, payload bytea) LANGUAGE plpgsql AS $f$
BEGIN
    n := r.entries;
    reason := '';
    payload := '';
    attempt := 0;
    round := 0;
    IF r.entries = 0 THEN
        status := S_REGISTERED; at := r.created;
        RETURN NEXT;
        n := n + 1;
        IF r.place = P_PARKED THEN
            status := S_CONCURRENCY_CONTROLLED; reason := r.reason;
            RETURN NEXT;
            n := n + 1;
        END IF;
    END IF;
    runner := r.runner;
    attempt := r.attempt;
    round := r.round;
    reason := '';
    IF r.place = P_CLAIMED OR (r.place = P_FINAL AND r.runner IS NOT NULL) THEN
        status := S_PENDING; at := r.claimed;
        RETURN NEXT;
        n := n + 1;
        IF r.started > 0 THEN
            status := S_RUNNING; at := r.started;
            RETURN NEXT;
            n := n + 1;
        END IF;
    END IF;
    IF r.place = P_FINAL THEN
        status := r.status; at := r.ended; reason := r.reason; payload := coalesce(r.payload, '');
        RETURN NEXT;
    END IF;
END $f$;

-- Keep what a row is about to forget, and one more entry ("status_" NULL: none). To be called before the row changes.
CREATE OR REPLACE FUNCTION @note(r @inv, status_ integer, at_ bigint, who text, round_ integer, why text, data bytea) RETURNS @inv LANGUAGE plpgsql AS $f$
DECLARE
    kept integer;
BEGIN
    INSERT INTO @hist (app, seq, n, status, at, runner, attempt, round, reason, payload)
        SELECT r.app, r.seq, t.n, t.status, t.at, t.runner, t.attempt, t.round, t.reason, t.payload FROM @trail(r) t;
    GET DIAGNOSTICS kept = ROW_COUNT;
    r.entries := r.entries + kept;
    IF status_ IS NOT NULL THEN
        INSERT INTO @hist (app, seq, n, status, at, runner, attempt, round, reason, payload)
            VALUES (r.app, r.seq, r.entries, status_, at_, who, r.attempt, round_, why, data);
        r.entries := r.entries + 1;
    END IF;
    RETURN r;
END $f$;

CREATE OR REPLACE FUNCTION @save(r @inv) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    UPDATE @inv SET
        status = r.status, place = r.place, priority = r.priority, rank = r.rank, boost = r.boost, attempt = r.attempt, runner = r.runner,
        retries = r.retries, crashes = r.crashes, round = r.round, claimed = r.claimed, started = r.started, ended = r.ended, due = r.due,
        timer = r.timer, held = r.held, rated = r.rated, why = r.why, behind = r.behind, back = r.back, alone = r.alone, cancel = r.cancel,
        entries = r.entries, gone = r.gone, signals = r.signals, seen = r.seen, reason = r.reason, payload = r.payload
    WHERE seq = r.seq;
END $f$;

-- When the rate of a row lets it be claimed: as soon as fewer than "rate_n" claims lie in the window before.
CREATE OR REPLACE FUNCTION @opens(r @inv, now bigint) RETURNS bigint LANGUAGE plpgsql AS $f$
DECLARE
    n integer;
    oldest bigint;
BEGIN
    SELECT count(*), min(x.at) INTO n, oldest FROM (
        SELECT at FROM @rate WHERE app = r.app AND key = r.rate_key AND at > now - r.rate_period ORDER BY at DESC LIMIT r.rate_n
    ) x;
    -- Claims of a clock that was set back since lie in the future; nobody waits longer than a period.
    RETURN CASE WHEN n < r.rate_n THEN now ELSE least(oldest, now) + r.rate_period END;
END $f$;

CREATE OR REPLACE FUNCTION @park(r @inv, why_ integer, behind_ text, reason_ text, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
BEGIN
    IF r.status <> S_CONCURRENCY_CONTROLLED THEN
        -- A fresh row tells by itself that it was parked as it was submitted.
        IF NOT (r.entries = 0 AND r.attempt = 0 AND r.created = now) THEN
            r := @note(r, S_CONCURRENCY_CONTROLLED, now, NULL, r.round, reason_, '');
        END IF;
        r.status := S_CONCURRENCY_CONTROLLED;
        r.reason := reason_;
    END IF;
    r.place := P_PARKED;
    r.why := why_;
    r.behind := behind_;
    RETURN r;
END $f$;

CREATE OR REPLACE FUNCTION @unpark(r @inv, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
BEGIN
    IF r.status = S_CONCURRENCY_CONTROLLED THEN
        r := @note(r, r.back, now, NULL, r.round, '', '');
        r.status := r.back;
        r.reason := '';
    END IF;
    r.why := 0;
    r.behind := NULL;
    RETURN r;
END $f$;

CREATE OR REPLACE FUNCTION @is_full(app_ bigint, key text, lim integer) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    n integer;
BEGIN
    SELECT count(*) INTO n FROM (SELECT 1 FROM @inv WHERE app = app_ AND held = key LIMIT lim) x;
    RETURN n >= lim;
END $f$;

-- Find the place of a row that is due: READY, or LATER or PARKED for its key or rate. Not saved.
CREATE OR REPLACE FUNCTION @settle(r @inv, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
DECLARE
    opens bigint;
BEGIN
    r.timer := NULL;
    IF r.running_key IS NOT NULL AND NOT r.drop_blocked AND r.held IS NULL THEN
        IF @is_full(r.app, r.running_key, r.running_limit) THEN
            RETURN @park(r, W_KEY, r.running_key, '', now);
        END IF;
        r.held := r.running_key;
    END IF;
    IF r.rate_key IS NOT NULL THEN
        IF r.rated IS NULL AND EXISTS (SELECT 1 FROM @inv WHERE app = r.app AND rated = r.rate_key) THEN
            RETURN @park(r, W_RATE, r.rate_key, '', now);
        END IF;
        r.rated := r.rate_key;
        opens := @opens(r, now);
        IF opens > now THEN
            r := @unpark(r, now);
            r.place := P_LATER;
            r.timer := opens;
            r.due := opens;
            PERFORM @stir(1);
            RETURN r;
        END IF;
    END IF;
    r := @unpark(r, now);
    r.place := P_READY;
    PERFORM @stir(1);
    RETURN r;
END $f$;

-- Let a row that has left its place wait for its time, or settle at once. Its status is "status_" already, unless it is parked.
CREATE OR REPLACE FUNCTION @admit(r @inv, status_ integer, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
BEGIN
    r.back := status_;
    IF r.due > now THEN
        r.place := P_LATER;
        r.timer := r.due;
        PERFORM @stir(1);  -- whoever sleeps until a later time must know
        RETURN r;
    END IF;
    RETURN @settle(r, now);
END $f$;

-- Make those that wait for a running key READY while it has places.
CREATE OR REPLACE FUNCTION @let_go(app_ bigint, key text, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    r @inv;
BEGIN
    LOOP
        SELECT * INTO r FROM @inv WHERE app = app_ AND place = P_PARKED AND why = W_KEY AND behind = key
            ORDER BY rank DESC, boost DESC, seq LIMIT 1 FOR UPDATE;
        EXIT WHEN NOT FOUND OR @is_full(app_, key, r.running_limit);
        PERFORM @save(@settle(r, now));
    END LOOP;
END $f$;

-- The next one in the line of a rate becomes its head.
CREATE OR REPLACE FUNCTION @next_head(app_ bigint, rate text, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    r @inv;
BEGIN
    SELECT * INTO r FROM @inv WHERE app = app_ AND place = P_PARKED AND why = W_RATE AND behind = rate
        ORDER BY rank DESC, boost DESC, seq LIMIT 1 FOR UPDATE;
    IF FOUND THEN
        PERFORM @save(@settle(r, now));
    END IF;
END $f$;

-- A claim of a rate was given back unused: "r" goes before the head, if it waits for that; whoever is the head may go earlier.
CREATE OR REPLACE FUNCTION @go_first(r @inv, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    head @inv;
BEGIN
    SELECT * INTO head FROM @inv WHERE app = r.app AND rated = r.rate_key LIMIT 1 FOR UPDATE;
    IF NOT FOUND OR head.seq = r.seq THEN
        RETURN;
    END IF;
    IF r.why = W_RATE THEN
        head.rated := NULL;
        head.timer := NULL;
        PERFORM @save(@park(head, W_RATE, r.rate_key, '', now));
        head := r;
    END IF;
    PERFORM @save(@settle(head, now));
END $f$;

-- A row that has changed its place gives up what it held; it is saved, and the next ones go on.
CREATE OR REPLACE FUNCTION @leave(r @inv, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
DECLARE
    key text := r.held;
    rate text := r.rated;
BEGIN
    r.held := NULL;
    r.rated := NULL;
    PERFORM @save(r);
    IF key IS NOT NULL THEN
        PERFORM @let_go(r.app, key, now);
    END IF;
    IF rate IS NOT NULL THEN
        PERFORM @next_head(r.app, rate, now);
    END IF;
    RETURN r;
END $f$;

-- The attempt of a claimed row ends without a final status: it is admitted again, suspended, or parked until its task is known.
-- "extra" is what only some outcomes have: what is awaited, how many signals are known of, blobs; "args_" the arguments of the next round.
CREATE OR REPLACE FUNCTION @give_back(r @inv, status_ integer, reason_ text, data bytea, due_ bigint, is_unknown boolean, extra json, args_ bytea, now bigint)
RETURNS @inv LANGUAGE plpgsql AS $f$
BEGIN
    r := @note(r, status_, now, r.runner, r.round, reason_, data);
    IF status_ <> S_REGISTERED THEN
        PERFORM @mark_change(r, status_);
    END IF;
    r.status := status_;
    r.place := P_WAITING;
    r.reason := reason_;
    r.runner := NULL;
    r.due := due_;
    r.timer := nullif(due_, 0);
    r.started := 0;
    r := @leave(r, now);
    DELETE FROM @edge WHERE app = r.app AND waiter = r.id;
    IF is_unknown THEN
        r.back := status_;
        r := @park(r, W_TASK, r.task, reason_, now);
        r.timer := NULL;
    ELSIF status_ = S_PAUSED THEN
        r := @suspend(r, extra, now);
    ELSE
        IF args_ IS NOT NULL THEN
            r := @renew(r, args_, extra, now);
        END IF;
        r := @admit(r, status_, now);
    END IF;
    PERFORM @save(r);
    RETURN r;
END $f$;

-- A row becomes final, wherever it is.
CREATE OR REPLACE FUNCTION @finalize(r @inv, status_ integer, reason_ text, data bytea, ended_ bigint, now bigint) RETURNS @inv LANGUAGE plpgsql AS $f$
BEGIN
    IF r.place = P_PARKED AND r.entries = 0 THEN
        r := @note(r, NULL, 0, NULL, 0, '', '');
    END IF;
    IF r.place <> P_CLAIMED THEN
        r.runner := NULL;
    END IF;
    r.status := status_;
    r.place := P_FINAL;
    r.reason := reason_;
    r.payload := data;
    r.ended := CASE WHEN ended_ > 0 THEN ended_ ELSE now END;
    r.gone := CASE WHEN r.result_ttl > 0 THEN r.ended + r.result_ttl END;
    r.timer := NULL;
    r.why := 0;
    r.behind := NULL;
    r.seen := NULL;
    IF r.registration_key IS NOT NULL THEN
        DELETE FROM @registration WHERE app = r.app AND key = r.registration_key AND seq = r.seq;
    END IF;
    r := @leave(r, now);
    DELETE FROM @edge WHERE app = r.app AND waiter = r.id;
    PERFORM @settle_waits(r.app, r.id, now);
    PERFORM @tell_end(r.id);
    PERFORM @mark_change(r, status_);
    RETURN r;
END $f$;

-- The runner of a claimed row is gone: it goes back, or ends where that was asked for. Its status then.
CREATE OR REPLACE FUNCTION @lose_owner(r @inv, reason_ text, now bigint) RETURNS integer LANGUAGE plpgsql AS $f$
BEGIN
    IF r.cancel THEN
        PERFORM @finalize(r, S_CANCELLED, r.reason, '', 0, now);
        RETURN S_CANCELLED;
    END IF;
    PERFORM @give_back(r, S_REGISTERED, reason_, '', 0, false, NULL, NULL, now);
    RETURN S_REGISTERED;
END $f$;
