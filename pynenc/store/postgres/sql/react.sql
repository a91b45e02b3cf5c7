-- Reactions: what is submitted because an invocation became final, RETRY or PAUSED, in the same transaction. Only done by who has the turn of the app.
--
-- Such changes are noted in the transaction as they happen, if there is a reaction to them; "react" submits at its end, or before the claim of a "finish".

CREATE OR REPLACE FUNCTION @mark_change(r @inv, status_ integer) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
    IF @reacts(r.app, ARRAY[r.task], ARRAY[status_]) THEN
        PERFORM set_config('pynenc.changes', (coalesce(nullif(current_setting('pynenc.changes', true), ''), '{}')::bigint[]
            || ARRAY[r.seq, status_, r.round, r.attempt])::text, true);
    END IF;
END $f$;

-- Whether there may be a reaction to one of these statuses of one of these tasks.
CREATE OR REPLACE FUNCTION @reacts(app_ bigint, tasks text[], statuses integer[]) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    RETURN EXISTS (SELECT 1 FROM @reaction WHERE app = app_ AND status = ANY (statuses) AND task = ANY (tasks || ''::text));
END $f$;

-- Whether outcomes may be reacted to; without statuses they are all successes. What is not final may be cancelled instead.
CREATE OR REPLACE FUNCTION @outcomes_react(app_ bigint, ids text[], statuses bigint[]) RETURNS boolean LANGUAGE plpgsql AS $f$
BEGIN
    RETURN @reacts(app_, ARRAY(SELECT DISTINCT task FROM @inv WHERE app = app_ AND id = ANY (ids)),
        CASE WHEN cardinality(statuses) = 0 THEN ARRAY[S_SUCCESS] ELSE statuses::integer[] || S_CANCELLED END);
END $f$;

-- Submit what the changes so far ask for, in their order.
CREATE OR REPLACE FUNCTION @react(app_ bigint, now bigint) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    noted bigint[] := nullif(current_setting('pynenc.changes', true), '')::bigint[];
    call record;
BEGIN
    IF noted IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('pynenc.changes', '', true);
    FOR k IN 1 .. cardinality(noted) BY 4 LOOP
        FOR call IN SELECT x.*, g.args, g.tail, g.owner, concat_ws('~', i.id, g.label, noted[k + 2], noted[k + 3]) AS cause
            FROM @inv i JOIN @reaction g ON g.app = app_ AND g.status = noted[k + 1] AND g.task IN ('', i.task),
                LATERAL json_populate_record(NULL::@call, g.call) x
            WHERE i.seq = noted[k] AND (g.task <> '' OR NOT starts_with(i.task, 'FIRING_TASKS')) ORDER BY g.owner, g.n
        LOOP
            call.id := call.owner || '~' || call.cause;
            call.args := call.args || convert_to(call.cause, 'UTF8') || call.tail;
            IF (@holder(app_, call)).id IS NULL THEN
                PERFORM @insert_one(app_, now, call, 0, false, true);
            END IF;
        END LOOP;
    END LOOP;
END $f$;
