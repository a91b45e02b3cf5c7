-- Removal, in bounded batches: finals whose time is over, blobs without references, runners that are long gone.

-- Remove invocations with all that belongs to them.
CREATE OR REPLACE FUNCTION @remove(app_ bigint, seqs bigint[], now bigint, is_everything boolean) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    ids text[];
BEGIN
    SELECT array_agg(id) INTO ids FROM @inv WHERE seq = ANY (seqs);
    UPDATE @blob SET seen = greatest(seen, now) WHERE app = app_ AND key IN (SELECT unnest(blobs) FROM @inv WHERE seq = ANY (seqs));
    DELETE FROM @ref f USING @inv i, unnest(i.blobs) b WHERE i.seq = ANY (seqs) AND f.app = app_ AND f.key = b AND f.seq = i.seq;
    DELETE FROM @memo WHERE app = app_ AND scope = ANY (ids);
    -- Those below it: "0" follows "/".
    DELETE FROM @memo m USING unnest(ids) u (id) WHERE m.app = app_ AND m.scope >= u.id || '/' AND m.scope < u.id || '0';
    IF is_everything THEN
        DELETE FROM @edge WHERE app = app_ AND (waiter = ANY (ids) OR awaited = ANY (ids));
        DELETE FROM @registration WHERE app = app_ AND seq = ANY (seqs);
    END IF;
    DELETE FROM @hist WHERE app = app_ AND seq = ANY (seqs);
    -- What no window of their rates needs, looked for once for each rate; what a claim holds at this moment it removes itself.
    DELETE FROM @rate WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM
        (SELECT rate_key, max(rate_period) AS period FROM @inv WHERE seq = ANY (seqs) AND rate_key IS NOT NULL GROUP BY rate_key) i
        JOIN @rate t ON t.app = app_ AND t.key = i.rate_key AND t.at <= now - i.period FOR UPDATE OF t SKIP LOCKED));
    DELETE FROM @inv WHERE seq = ANY (seqs);
END $f$;

-- Whether the workflow that a row belongs to goes on; for its root: the one that it was started by.
CREATE OR REPLACE FUNCTION @is_needed(app_ bigint, id_ text, workflow_ text, above text) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    RETURN workflow_ IS NOT NULL AND EXISTS (SELECT 1 FROM @inv WHERE app = app_ AND id = CASE WHEN workflow_ = id_ THEN above ELSE workflow_ END AND place < P_FINAL);
END $f$;

-- What is over. Rows that somebody else holds are left to the next batch. "kept": their time is over, but they are needed, and get another one.
CREATE OR REPLACE FUNCTION @purge(app_ bigint, at_ bigint, lease_at bigint, boot_ text, ended_before bigint, grace bigint, runner_grace bigint, lim bigint)
RETURNS TABLE (invocations bigint, kept bigint, blobs_ bigint, runners bigint) LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    now bigint := @time(at_);
    lease_now bigint := @time(lease_at);
    doomed bigint[];
    needed bigint[];
    more bigint[];
BEGIN
    SELECT coalesce(array_agg(x.seq) FILTER (WHERE NOT x.is_needed), '{}'), coalesce(array_agg(x.seq) FILTER (WHERE x.is_needed), '{}') INTO doomed, needed FROM (
        SELECT seq, @is_needed(app_, id, workflow, workflow_parent) AS is_needed FROM (
            SELECT seq, id, workflow, workflow_parent FROM @inv WHERE app = app_ AND gone <= now ORDER BY gone LIMIT lim FOR UPDATE SKIP LOCKED) y) x;
    UPDATE @inv SET gone = now + result_ttl WHERE seq = ANY (needed);
    kept := cardinality(needed);
    IF ended_before > 0 AND cardinality(doomed) < lim THEN
        SELECT coalesce(array_agg(x.seq), '{}') INTO more FROM (
            SELECT seq FROM @inv WHERE app = app_ AND place = P_FINAL AND ended < ended_before AND seq <> ALL (doomed)
                AND NOT @is_needed(app_, id, workflow, workflow_parent)
            ORDER BY seq LIMIT lim - cardinality(doomed) FOR UPDATE SKIP LOCKED) x;
        doomed := doomed || more;
    END IF;
    PERFORM @remove(app_, doomed, now, false);
    invocations := cardinality(doomed);
    DELETE FROM @blob WHERE app = app_ AND key IN (SELECT key FROM @blob b WHERE b.app = app_ AND b.seen <= now - grace
        AND NOT EXISTS (SELECT 1 FROM @ref f WHERE f.app = app_ AND f.key = b.key) LIMIT lim);
    GET DIAGNOSTICS blobs_ = ROW_COUNT;
    DELETE FROM @runner r WHERE r.app = app_ AND r.seen < now - runner_grace AND (r.death IS NOT NULL OR r.boot <> boot_ OR r.until <= lease_now)
        AND NOT EXISTS (SELECT 1 FROM @inv i WHERE i.app = app_ AND i.runner = r.id AND i.place = P_CLAIMED);
    GET DIAGNOSTICS runners = ROW_COUNT;
    IF cardinality(doomed) + kept < lim THEN  -- it looks at all of them: those of rates whose rows were gone before their window was
        DELETE FROM @rate WHERE app = app_ AND at < now - 30 * 86400000000;
    END IF;
    RETURN NEXT;
END $f$;

-- One batch of everything; with the last one all that is left.
CREATE OR REPLACE FUNCTION @purge_everything(app_ bigint, at_ bigint, lim bigint) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $f$
DECLARE
    doomed bigint[];
BEGIN
    PERFORM @take_turn(app_);
    SELECT coalesce(array_agg(x.seq), '{}') INTO doomed FROM (SELECT seq FROM @inv WHERE app = app_ ORDER BY seq LIMIT lim FOR UPDATE) x;
    PERFORM @remove(app_, doomed, @time(at_), true);
    IF cardinality(doomed) < lim THEN
        DELETE FROM @hist WHERE app = app_;
        DELETE FROM @registration WHERE app = app_;
        DELETE FROM @rate WHERE app = app_;
        DELETE FROM @edge WHERE app = app_;
        DELETE FROM @memo WHERE app = app_;
        DELETE FROM @blob WHERE app = app_;
        DELETE FROM @ref WHERE app = app_;
        DELETE FROM @lease WHERE app = app_;
    END IF;
    RETURN cardinality(doomed);
END $f$;
