-- Live moves of slots between stores, as both stores of a move know them. See DESIGN section 10 and node/src/moves.
--
-- A slot's partitions in the target are filled by Postgres's logical replication, which goes on whatever becomes of the node
-- that drives the move. So what stops a driver that is late is in the store: the slot's mark.

-- Which move a slot's partitions in this store are of, or were of last. Never deleted: a newer move's mark is never replaced
-- by an older one's, and what is closed is not filled again by the same move.
CREATE TABLE slot_move (
    slot            integer PRIMARY KEY,
    move_id         bigint  NOT NULL,
    fill            integer NOT NULL,         -- numbers the fillings: each has a subscription of its own
    filling         boolean NOT NULL,         -- false: closed. The partitions are complete, or given up
    source_timeline integer NOT NULL,         -- of both stores' Postgres when the filling began
    target_timeline integer NOT NULL
);

-- A row per move, written in the source in the same transaction that seals its slots, and replicated like the slots' rows,
-- after all of them: where the target has it, the target has all that was written before the seal.
CREATE TABLE move_marker (
    move_id bigint PRIMARY KEY
);

CREATE FUNCTION timeline() RETURNS integer LANGUAGE sql AS 'SELECT timeline_id FROM pg_control_checkpoint()';

-- In the target: begins to fill the slots' partitions for a move, and returns the number of this filling. SQLSTATE TT004:
-- a newer move has a slot, or this move is past it, or somebody owns a slot here.
CREATE FUNCTION begin_fill(p_move bigint, p_slots integer[], p_source_timeline integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    number integer;
BEGIN
    INSERT INTO slot_move (slot, move_id, fill, filling, source_timeline, target_timeline)
        SELECT s, 0, 0, false, 0, 0 FROM unnest(p_slots) AS s ORDER BY s ON CONFLICT DO NOTHING;
    PERFORM 1 FROM slot_move m WHERE m.slot = ANY (p_slots) ORDER BY m.slot FOR UPDATE;
    IF EXISTS (SELECT 1 FROM slot_move m WHERE m.slot = ANY (p_slots)
                   AND (m.move_id > p_move OR (m.move_id = p_move AND NOT m.filling))) THEN
        RAISE EXCEPTION USING ERRCODE = 'TT004', MESSAGE = 'the partitions are not this filling''s';
    END IF;
    IF EXISTS (SELECT 1 FROM slot_fence f WHERE f.slot = ANY (p_slots) AND f.node <> 0) THEN
        RAISE EXCEPTION USING ERRCODE = 'TT004', MESSAGE = 'somebody owns a slot in the target';
    END IF;
    SELECT max(m.fill) + 1 INTO number FROM slot_move m WHERE m.slot = ANY (p_slots);
    UPDATE slot_move SET move_id = p_move, fill = number, filling = true, source_timeline = p_source_timeline,
        target_timeline = timeline() WHERE slot = ANY (p_slots);
    -- An earlier filling's says nothing of this one.
    DELETE FROM move_marker WHERE move_id = p_move;
    RETURN number;
END $$;

-- In the target: holds the marks until the transaction ends, where they are this filling's. TT004 where they are not.
CREATE FUNCTION check_fill(p_move bigint, p_slots integer[], p_fill integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM slot_move m WHERE m.slot = ANY (p_slots) ORDER BY m.slot FOR UPDATE;
    IF (SELECT count(*) FROM slot_move m
            WHERE m.slot = ANY (p_slots) AND m.move_id = p_move AND m.fill = p_fill AND m.filling)
        <> cardinality(p_slots) THEN
        RAISE EXCEPTION USING ERRCODE = 'TT004', MESSAGE = 'the partitions are not this filling''s';
    END IF;
END $$;

CREATE FUNCTION slot_leaves(p_slots integer[]) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('%s_s%s', parent, slot) FROM unnest(p_slots) AS slot,
        unnest(ARRAY['conversation', 'member', 'event', 'reaction', 'inbox', 'block', 'profile']) AS parent
$$;

-- In the target: empty partitions for a slot. Emptied, not dropped: that would lock the parents.
CREATE FUNCTION empty_slot(p_move bigint, p_slot integer, p_fill integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    leaf text;
BEGIN
    PERFORM check_fill(p_move, ARRAY[p_slot], p_fill);
    PERFORM create_slot(p_slot);
    FOR leaf IN SELECT slot_leaves(ARRAY[p_slot]) LOOP
        EXECUTE format('TRUNCATE %I', leaf);
    END LOOP;
    DELETE FROM slot_cursor WHERE slot = p_slot;
END $$;

-- In the target: the partitions are what they are, and nobody fills them any more.
CREATE FUNCTION close_fill(p_move bigint, p_slots integer[], p_fill integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_fill(p_move, p_slots, p_fill);
    UPDATE slot_move SET filling = false WHERE slot = ANY (p_slots);
END $$;

-- Has whoever changes owners or seals wait, until the transaction ends, for all that could still write under the old ones:
-- first the slots' fences (against another taker), then every lane of the owners found there. After this their batches in
-- flight are over, and the next ones read the new epochs.
CREATE FUNCTION lock_owners(p_slots integer[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM slot_fence f WHERE f.slot = ANY (p_slots) ORDER BY f.slot FOR UPDATE;
    PERFORM 1 FROM lane l
        WHERE l.node IN (SELECT f.node FROM slot_fence f WHERE f.slot = ANY (p_slots))
        ORDER BY l.node, l.lane FOR UPDATE;
END $$;

-- In the source: the slots take no more writes. As take_slots, on behalf of the owners that the map names, and with the
-- marker in the same transaction. Returns the slots that are sealed at these epochs. Call it in autocommit only.
CREATE FUNCTION seal_slots(p_move bigint, p_slots integer[], p_epochs bigint[]) RETURNS TABLE (slot integer)
LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
#variable_conflict use_column
BEGIN
    PERFORM lock_owners(p_slots);
    UPDATE slot_fence f SET epoch = want.epoch, sealed = true
        FROM unnest(p_slots, p_epochs) AS want (slot, epoch)
        WHERE f.slot = want.slot AND f.epoch < want.epoch;
    INSERT INTO move_marker (move_id) VALUES (p_move) ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT f.slot FROM slot_fence f
        JOIN unnest(p_slots, p_epochs) AS want (slot, epoch) ON f.slot = want.slot AND f.epoch = want.epoch
        WHERE f.sealed;
END $$;

-- As it was, but for the seal: a store that slots come back to has sealed them when they left. At the epoch that the store
-- has already nothing changes, and so no seal ends: a seal begins and ends with an epoch of its own.
CREATE OR REPLACE FUNCTION take_slots(p_node bigint, p_incarnation bigint, p_slots integer[], p_epochs bigint[])
RETURNS TABLE (slot integer) LANGUAGE plpgsql SET lock_timeout = '1500ms' AS $$
#variable_conflict use_column
BEGIN
    PERFORM lock_owners(p_slots);
    UPDATE slot_fence f SET epoch = want.epoch, node = p_node, incarnation = p_incarnation, sealed = false
        FROM unnest(p_slots, p_epochs) AS want (slot, epoch)
        WHERE f.slot = want.slot AND f.epoch < want.epoch;
    RETURN QUERY SELECT f.slot FROM slot_fence f
        JOIN unnest(p_slots, p_epochs) AS want (slot, epoch) ON f.slot = want.slot AND f.epoch = want.epoch
        WHERE f.node = p_node AND f.incarnation = p_incarnation AND NOT f.sealed;
END $$;

-- Where the logs of slots end, and where fan-out has come to; for who has just taken them. From the leaves: a new connection would
-- first have to learn of all partitions of a parent.
CREATE FUNCTION slot_ends(p_slots integer[]) RETURNS TABLE (slot integer, last_entry uuid, mailbox_cursor uuid)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    FOREACH slot IN ARRAY p_slots LOOP
        EXECUTE format('SELECT greatest((SELECT e.id FROM event_s%1$s e ORDER BY e.id DESC LIMIT 1), '
                       '(SELECT m.standing_id FROM member_s%1$s m WHERE m.standing_id IS NOT NULL '
                       'ORDER BY m.standing_id DESC LIMIT 1))', slot) INTO last_entry;
        SELECT k.event_id INTO mailbox_cursor FROM slot_cursor k
            WHERE k.slot = slot_ends.slot AND k.consumer = 'mailbox';
        RETURN NEXT;
    END LOOP;
END $$;

-- In the store that a move leaves: nobody owns the slots here, and no driver of this move or an older one may fill them
-- again. Returns the slots whose partitions are to go: those that a newer move has are left alone.
CREATE FUNCTION give_up_slots(p_move bigint, p_slots integer[]) RETURNS TABLE (slot integer) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO slot_move (slot, move_id, fill, filling, source_timeline, target_timeline)
        SELECT s, 0, 0, false, 0, 0 FROM unnest(p_slots) AS s ORDER BY s ON CONFLICT DO NOTHING;
    PERFORM 1 FROM slot_move m WHERE m.slot = ANY (p_slots) ORDER BY m.slot FOR UPDATE;
    UPDATE slot_move m SET move_id = p_move, filling = false WHERE m.slot = ANY (p_slots) AND m.move_id <= p_move;
    UPDATE slot_fence f SET node = 0, incarnation = 0 FROM slot_move m
        WHERE f.slot = m.slot AND m.slot = ANY (p_slots) AND m.move_id = p_move AND f.node <> 0;
    DELETE FROM slot_cursor k USING slot_move m
        WHERE k.slot = m.slot AND m.slot = ANY (p_slots) AND m.move_id = p_move;
    DELETE FROM move_marker WHERE move_id = p_move;
    RETURN QUERY SELECT m.slot FROM slot_move m WHERE m.slot = ANY (p_slots) AND m.move_id = p_move;
END $$;

-- Comparing. A unit is the rows of one table, slot and key (a conversation or a user), of events and reactions also of one
-- block of 256 seqs. Of each: how many rows, and the sum of their hashes, which does not depend on their order.

-- Where the slots' data stand: every change after this is in changed_units of it.
CREATE FUNCTION slot_positions(p_slots integer[]) RETURNS TABLE (slot integer, event uuid, xid bigint)
LANGUAGE plpgsql AS $$
DECLARE
    s integer;
BEGIN
    FOREACH s IN ARRAY p_slots LOOP
        slot := s;
        xid := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
        EXECUTE format('SELECT id FROM event_s%s ORDER BY id DESC LIMIT 1', s) INTO event;
        event := coalesce(event, '00000000-0000-0000-0000-000000000000');
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION all_units(p_slots integer[]) RETURNS TABLE (parent text, slot integer, key uuid, block bigint, rows bigint, hash numeric)
LANGUAGE plpgsql AS $$
DECLARE
    s integer;
BEGIN
    FOREACH s IN ARRAY p_slots LOOP
        RETURN QUERY EXECUTE format($q$
            SELECT 'conversation', %1$s, id, 0::bigint, count(*), sum(hashtextextended(t::text, 0)) FROM conversation_s%1$s t GROUP BY id
            UNION ALL SELECT 'member', %1$s, conversation_id, 0, count(*), sum(hashtextextended(t::text, 0)) FROM member_s%1$s t GROUP BY conversation_id
            UNION ALL SELECT 'event', %1$s, conversation_id, seq / 256, count(*), sum(hashtextextended(t::text, 0)) FROM event_s%1$s t GROUP BY conversation_id, seq / 256
            UNION ALL SELECT 'reaction', %1$s, conversation_id, message_seq / 256, count(*), sum(hashtextextended(t::text, 0)) FROM reaction_s%1$s t GROUP BY conversation_id, message_seq / 256
            UNION ALL SELECT 'inbox', %1$s, user_id, 0, count(*), sum(hashtextextended(t::text, 0)) FROM inbox_s%1$s t GROUP BY user_id
            UNION ALL SELECT 'block', %1$s, user_id, 0, count(*), sum(hashtextextended(t::text, 0)) FROM block_s%1$s t GROUP BY user_id
            UNION ALL SELECT 'profile', %1$s, user_id, 0, count(*), sum(hashtextextended(t::text, 0)) FROM profile_s%1$s t GROUP BY user_id
        $q$, s);
    END LOOP;
END $$;

-- The units that may have changed since. Events by id; what an edit, a deletion or a reaction did to earlier ones, by their
-- target; everything else by the transaction that wrote the row. Rows are deleted nowhere but there (append_events).
CREATE FUNCTION changed_units(p_slots integer[], p_events uuid[], p_xids bigint[])
RETURNS TABLE (parent text, slot integer, key uuid, block bigint) LANGUAGE plpgsql AS $$
DECLARE
    x record;
BEGIN
    FOR x IN SELECT * FROM unnest(p_slots, p_events, p_xids) AS p (slot, event, xid) LOOP
        RETURN QUERY EXECUTE format($q$
            WITH new AS MATERIALIZED (SELECT conversation_id, seq, target_seq FROM event_s%1$s WHERE id > $1)
            SELECT DISTINCT 'event', %1$s, conversation_id, seq / 256 FROM new
            UNION SELECT 'event', %1$s, conversation_id, target_seq / 256 FROM new WHERE target_seq IS NOT NULL
            UNION SELECT 'event', %1$s, e.conversation_id, e.seq / 256 FROM new JOIN event_s%1$s e
                ON e.conversation_id = new.conversation_id AND e.target_seq = new.target_seq
            UNION SELECT 'reaction', %1$s, conversation_id, target_seq / 256 FROM new WHERE target_seq IS NOT NULL
            UNION SELECT 'conversation', %1$s, id, 0 FROM conversation_s%1$s WHERE age(xmin) <= $2
            UNION SELECT 'member', %1$s, conversation_id, 0 FROM member_s%1$s WHERE age(xmin) <= $2
            UNION SELECT 'inbox', %1$s, user_id, 0 FROM inbox_s%1$s WHERE age(xmin) <= $2
            UNION SELECT 'block', %1$s, user_id, 0 FROM block_s%1$s WHERE age(xmin) <= $2
            UNION SELECT 'profile', %1$s, user_id, 0 FROM profile_s%1$s WHERE age(xmin) <= $2
        $q$, x.slot) USING x.event, age((x.xid % 4294967296)::text::xid);
    END LOOP;
END $$;

-- Some units as they are now; one that is not there is missing from the result.
CREATE FUNCTION some_units(p_parents text[], p_slots integer[], p_keys uuid[], p_blocks bigint[])
RETURNS TABLE (parent text, slot integer, key uuid, block bigint, rows bigint, hash numeric) LANGUAGE plpgsql AS $$
DECLARE
    x record;
BEGIN
    FOR x IN SELECT u.parent, u.slot, array_agg(u.key) AS keys, array_agg(u.block) AS blocks
             FROM unnest(p_parents, p_slots, p_keys, p_blocks) AS u (parent, slot, key, block) GROUP BY u.parent, u.slot
    LOOP
        RETURN QUERY EXECUTE format(
            CASE WHEN x.parent IN ('event', 'reaction') THEN $q$
                SELECT %1$L, %2$s, u.key, u.block, count(*), sum(hashtextextended(t::text, 0))
                FROM unnest($1, $2) AS u (key, block) JOIN %1$s_s%2$s t
                    ON t.conversation_id = u.key AND t.%3$s >= u.block * 256 AND t.%3$s < (u.block + 1) * 256
                GROUP BY u.key, u.block
            $q$ ELSE $q$
                SELECT %1$L, %2$s, u.key, u.block, count(*), sum(hashtextextended(t::text, 0))
                FROM unnest($1, $2) AS u (key, block) JOIN %1$s_s%2$s t ON t.slot = %2$s AND t.%3$s = u.key
                GROUP BY u.key, u.block
            $q$ END,
            x.parent, x.slot,
            CASE x.parent WHEN 'event' THEN 'seq' WHEN 'reaction' THEN 'message_seq' WHEN 'conversation' THEN 'id'
                WHEN 'member' THEN 'conversation_id' ELSE 'user_id' END)
            USING x.keys, x.blocks;
    END LOOP;
END $$;
