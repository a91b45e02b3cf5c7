-- Runners: leases, orders, and what becomes of the work of those that are gone; and leadership of chores.
-- A lease is judged on the clock of the server; "boot_" tells clocks of tests apart.

-- Whether another runner that lives knows a task.
CREATE OR REPLACE FUNCTION @is_known(app_ bigint, task_ text, who text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    RETURN EXISTS (SELECT 1 FROM @runner r JOIN @runner me ON me.app = r.app AND me.id = who
        WHERE r.app = app_ AND r.id <> who AND r.death IS NULL AND r.boot = me.boot AND r.until > @lease_time() AND task_ = ANY (r.tasks));
END $f$;

-- The time that leases are judged by: that of the server, or the one that was given for this transaction.
CREATE OR REPLACE FUNCTION @lease_time() RETURNS bigint LANGUAGE sql VOLATILE AS $f$
    SELECT @time(coalesce(nullif(current_setting('pynenc.lease', true), ''), '0')::bigint)
$f$;

CREATE OR REPLACE FUNCTION @heartbeat(app_ bigint, at_ bigint, lease_at bigint, boot_ text, id_ text, grp_ text, supervised_ boolean, lease_ bigint,
                                      beat_ bytea, tasks_ text[])
RETURNS TABLE (alive boolean, cancel_ text[], suspects boolean) LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint := @time(at_);
    lease_now bigint := @time(lease_at);
    known @runner;
    r @inv;
    task_ text;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF EXISTS (SELECT 1 FROM unnest(tasks_) t WHERE EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND place = P_PARKED AND why = W_TASK AND behind = t OFFSET 0)) THEN
        PERFORM @take_turn(app_);
        now := @time(at_);
    END IF;
    INSERT INTO @runner AS k (app, id, grp, supervised, beat, tasks, started, seen, boot, since, until, lease)
        VALUES (app_, id_, grp_, supervised_, beat_, tasks_, now, now, boot_, lease_now, lease_now + lease_, lease_)
        ON CONFLICT (app, id) DO UPDATE SET beat = excluded.beat, seen = excluded.seen, boot = excluded.boot, until = excluded.until, lease = excluded.lease,
            tasks = CASE WHEN cardinality(excluded.tasks) > 0 THEN excluded.tasks ELSE k.tasks END,
            since = CASE WHEN k.boot <> excluded.boot OR k.until <= lease_now THEN lease_now ELSE k.since END
        WHERE k.death IS NULL
        RETURNING * INTO known;
    IF NOT FOUND THEN
        alive := false; cancel_ := '{}'; suspects := false;
        RETURN NEXT;
        RETURN;
    END IF;
    FOREACH task_ IN ARRAY tasks_ LOOP
        FOR r IN SELECT * FROM @inv WHERE app = app_ AND place = P_PARKED AND why = W_TASK AND behind = task_ ORDER BY seq FOR UPDATE LOOP
            r.reason := '';
            PERFORM @save(@settle(r, now));
        END LOOP;
    END LOOP;
    alive := true;
    cancel_ := (SELECT coalesce(array_agg(id ORDER BY seq), '{}') FROM @inv WHERE app = app_ AND runner = id_ AND place = P_CLAIMED AND cancel);
    suspects := EXISTS (SELECT 1 FROM @queue q WHERE q.app = app_ AND q.state <> 'paused'
        AND EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q.name AND place = P_READY AND alone));
    RETURN NEXT;
END $f$;

-- The process behind a group is certainly gone.
CREATE OR REPLACE FUNCTION @declare_dead(app_ bigint, grp_ text) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    UPDATE @runner SET death = 'its process died' WHERE app = app_ AND grp = grp_ AND death IS NULL;
END $f$;

-- Mark those that are gone, as far as the sweeper may judge. Whether there is anything to take back.
CREATE OR REPLACE FUNCTION @mark_gone(app_ bigint, lease_at bigint, boot_ text, by_ text) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    now bigint := @time(lease_at);
    me @runner;
BEGIN
    SELECT * INTO me FROM @runner WHERE app = app_ AND id = by_ AND death IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF me.boot = boot_ AND me.until > now AND now - me.since >= me.lease THEN
        -- A clock that was set back must not keep anybody alive for longer than a lease.
        UPDATE @runner SET until = now + lease WHERE app = app_ AND death IS NULL AND boot = boot_ AND until > now + lease;
        UPDATE @runner SET death = 'its lease is over' WHERE app = app_ AND id <> by_ AND death IS NULL AND (boot <> boot_ OR until <= now);
    END IF;
    RETURN EXISTS (SELECT 1 FROM @runner WHERE app = app_ AND id <> by_ AND death <> 'gone');
END $f$;

-- Take back, at most "lim", what runners that are gone still own.
CREATE OR REPLACE FUNCTION @recover(app_ bigint, at_ bigint, lease_at bigint, boot_ text, by_ text, lim bigint, error bytea)
RETURNS TABLE (id_ text, runner_ text, status_ integer) LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint := @time(at_);
    victim @runner;
    r @inv;
    waiting text[];
BEGIN
    IF NOT @mark_gone(app_, lease_at, boot_, by_) THEN
        RETURN;
    END IF;
    PERFORM @take_turn(app_);
    now := @time(at_);
    -- A claim whose answer was lost may have been committed after its runner was forgotten.
    FOR victim IN SELECT * FROM @runner v WHERE app = app_ AND id <> by_ AND (death <> 'gone' OR (death = 'gone' AND
        EXISTS (SELECT 1 FROM @inv i WHERE i.app = app_ AND i.runner = v.id AND i.place = P_CLAIMED))) ORDER BY id FOR UPDATE LOOP
        -- Whoever waits ran nothing when the process died.
        SELECT coalesce(array_agg(DISTINCT e.waiter), '{}') INTO waiting FROM @inv i JOIN @edge e ON e.app = i.app AND e.waiter = i.id
            WHERE i.app = app_ AND i.runner = victim.id AND i.place = P_CLAIMED;
        FOR r IN SELECT * FROM @inv WHERE app = app_ AND runner = victim.id AND place = P_CLAIMED ORDER BY id LIMIT lim FOR UPDATE LOOP
            id_ := r.id;
            runner_ := victim.id;
            status_ := @take_back(r, victim, r.id = ANY (waiting), error, now);
            lim := lim - 1;
            RETURN NEXT;
        END LOOP;
        IF NOT EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND runner = victim.id AND place = P_CLAIMED) THEN
            UPDATE @runner SET death = 'gone' WHERE app = app_ AND id = victim.id;
        END IF;
    END LOOP;
    PERFORM @react(app_, now);
END $f$;

-- One row of a runner that is gone: uncounted, unless it ran alone in a process that certainly died. Where it went.
CREATE OR REPLACE FUNCTION @take_back(r @inv, victim @runner, waited boolean, error bytea, now bigint) RETURNS integer LANGUAGE plpgsql AS $f$
BEGIN
    IF victim.death = 'its process died' AND NOT victim.supervised AND NOT waited THEN
        r.crashes := r.crashes + r.alone::integer;
        IF r.alone AND r.crashes >= r.max_crashes THEN
            PERFORM @finalize(r, S_FAILED, format('crash %s of %s: its process died', r.crashes, greatest(1, r.max_crashes)), error, 0, now);
            RETURN S_FAILED;
        END IF;
        r.alone := true;
    END IF;
    RETURN @lose_owner(r, format('runner %s is gone: %s', victim.id, victim.death), now);
END $f$;

-- Whether something was never claimed and is overdue.
CREATE OR REPLACE FUNCTION @is_overdue(app_ bigint, at_ bigint) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint := @time(at_);
BEGIN
    RETURN EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND expires > 0 AND expires <= now AND attempt = 0 AND round = 0 AND place < P_CLAIMED);
END $f$;

-- End, at most "lim", what is overdue and was never claimed; how many.
CREATE OR REPLACE FUNCTION @expire(app_ bigint, at_ bigint, lim bigint) RETURNS integer LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint;
    seqs bigint[];
    n bigint;
    r @inv;
BEGIN
    PERFORM @take_turn(app_);
    now := @time(at_);
    seqs := ARRAY(SELECT seq FROM @inv WHERE app = app_ AND expires > 0 AND expires <= now AND attempt = 0 AND round = 0 AND place < P_CLAIMED
        ORDER BY expires, seq LIMIT lim FOR UPDATE);
    FOREACH n IN ARRAY seqs LOOP
        SELECT * INTO r FROM @inv WHERE seq = n;  -- the end of one may have changed the next
        PERFORM @finalize(r, S_CANCELLED, 'expired', '', 0, now);
    END LOOP;
    PERFORM @react(app_, now);
    RETURN cardinality(seqs);
END $f$;

-- Deregister runners that stop; how much of their work went back.
CREATE OR REPLACE FUNCTION @retire(app_ bigint, at_ bigint, names text[]) RETURNS integer LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint := @time(at_);
    n integer := 0;
    r @inv;
BEGIN
    PERFORM @take_turn(app_);
    now := @time(at_);
    FOR r IN SELECT * FROM @inv WHERE app = app_ AND runner = ANY (names) AND place = P_CLAIMED ORDER BY id FOR UPDATE LOOP
        PERFORM @lose_owner(r, 'runner stopped', now);
        n := n + 1;
    END LOOP;
    UPDATE @runner SET death = 'gone' WHERE app = app_ AND id = ANY (names);
    PERFORM @react(app_, now);
    RETURN n;
END $f$;

-- Take, renew or (ttl 0) give back the leadership of a chore.
CREATE OR REPLACE FUNCTION @lead(app_ bigint, lease_at bigint, boot_ text, name_ text, owner_ text, ttl bigint) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE
    now bigint := @time(lease_at);
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF ttl <= 0 THEN
        DELETE FROM @lease WHERE app = app_ AND name = name_ AND owner = owner_;
        RETURN false;
    END IF;
    INSERT INTO @lease AS l (app, name, owner, boot, until) VALUES (app_, name_, owner_, boot_, now + ttl)
        ON CONFLICT (app, name) DO UPDATE SET owner = excluded.owner, boot = excluded.boot, until = excluded.until
        WHERE l.owner = excluded.owner OR l.boot <> excluded.boot OR l.until <= now;
    RETURN FOUND;
END $f$;

-- Show on the board whether somebody behind a store object is idle or waits for results. See "sleepers" for the lock.
CREATE OR REPLACE FUNCTION @mark(app_ bigint, id_ text, idle_ bigint, waits_ boolean, is_new boolean) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    now bigint := @time(0);
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF is_new THEN
        PERFORM pg_advisory_xact_lock(LOCK_BOARD, app_::integer);
    END IF;
    DELETE FROM @board WHERE app = app_ AND seen < now - 60000000;
    IF idle_ > 0 OR waits_ THEN
        INSERT INTO @board (app, id, idle, waits, seen) VALUES (app_, id_, idle_, waits_, now)
            ON CONFLICT (app, id) DO UPDATE SET idle = excluded.idle, waits = excluded.waits, seen = excluded.seen;
    ELSE
        DELETE FROM @board WHERE app = app_ AND id = id_;
    END IF;
END $f$;

-- Whether anything is claimable.
CREATE OR REPLACE FUNCTION @has_work(app_ bigint) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $f$
BEGIN
    RETURN EXISTS (SELECT 1 FROM @queue q WHERE q.app = app_ AND q.state <> 'paused' AND (
        EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q.name AND place = P_READY AND rank = 0 AND boost = 0 AND NOT alone)
        OR EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q.name AND place = P_READY AND (rank <> 0 OR boost <> 0) AND NOT alone)
        OR EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND queue = q.name AND place = P_READY AND alone)));
END $f$;

-- Whether somebody wants something cancelled that is claimed.
CREATE OR REPLACE FUNCTION @has_orders(app_ bigint) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $f$
BEGIN
    RETURN EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND place = P_CLAIMED AND cancel);
END $f$;
