-- The schema of one store. See DESIGN sections 3 to 6.
--
-- Data tables are partitioned by slot, one leaf each, so that a slot is moved, counted, vacuumed and dropped as a unit.
-- Control tables (a row per lane, per slot) are not: the node that takes a slot over reads and writes them directly.
-- ULIDs are stored as uuid: the same 16 bytes, the same order.

-- Which cluster and which store this is. A node refuses a store that is stamped for another.
CREATE TABLE store_identity (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cluster_id uuid    NOT NULL,
    store_id   bigint  NOT NULL,
    slots      integer NOT NULL
);

-- A committer lane of a node: the row that each of its batches locks FOR SHARE. Whoever changes the epoch of a slot
-- locks all lanes of the slot's old owner FOR UPDATE first, and so waits for the batch in flight.
CREATE TABLE lane (
    node        bigint   NOT NULL,
    lane        smallint NOT NULL,
    incarnation bigint   NOT NULL,
    token       bigint   NOT NULL,
    PRIMARY KEY (node, lane)
) WITH (fillfactor = 20);

-- Who may write a slot. Only ever changed by take_slots.
CREATE TABLE slot_fence (
    slot        integer PRIMARY KEY,
    epoch       bigint  NOT NULL DEFAULT 0,
    node        bigint  NOT NULL DEFAULT 0,
    incarnation bigint  NOT NULL DEFAULT 0,
    sealed      boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- How far a consumer ('mailbox', …) of a slot's log has come: every event up to this id is handled.
CREATE TABLE slot_cursor (
    slot     integer NOT NULL,
    consumer text    NOT NULL,
    event_id uuid    NOT NULL,
    PRIMARY KEY (slot, consumer)
) WITH (fillfactor = 20);

CREATE TABLE conversation (
    slot          integer  NOT NULL,
    id            uuid     NOT NULL,
    kind          smallint NOT NULL,          -- 1 direct, 2 group
    direct_lo     uuid,
    direct_hi     uuid,
    created_by    uuid     NOT NULL,
    created_at_ms bigint   NOT NULL,
    PRIMARY KEY (slot, id),
    CHECK ((kind = 1) = (direct_lo IS NOT NULL AND direct_hi IS NOT NULL))
) PARTITION BY LIST (slot);

CREATE TABLE member (
    slot            integer NOT NULL,
    conversation_id uuid    NOT NULL,
    user_id         uuid    NOT NULL,
    joined_seq      bigint  NOT NULL,         -- the first event that the member may read
    left_seq        bigint,                   -- the last one, once gone
    PRIMARY KEY (slot, conversation_id, user_id)
) PARTITION BY LIST (slot);

-- The log. Rows are never deleted: (conversation, sender, temp_id) with its payload hash makes retries harmless for ever.
-- Each leaf has unique indexes on (conversation_id, seq), (conversation_id, sender_id, temp_id) and (id): see create_slot.
CREATE TABLE event (
    conversation_id uuid     NOT NULL,
    id              uuid     NOT NULL,
    sender_id       uuid     NOT NULL,
    seq             bigint   NOT NULL CHECK (seq > 0),
    message_no      bigint   NOT NULL,
    created_at_ms   bigint   NOT NULL,
    payload_hash    bigint   NOT NULL,
    slot            integer  NOT NULL,
    kind            smallint NOT NULL,
    temp_id         text COLLATE "C" NOT NULL,
    body            bytea    NOT NULL
) PARTITION BY LIST (slot);

-- One row per user and conversation: the fold of the log. No index on rev: the row changes with almost every message of
-- its conversation, and without one each of those updates stays on its page (HOT). Sync reads a user's rows and filters.
CREATE TABLE inbox (
    slot            integer NOT NULL,
    user_id         uuid    NOT NULL,
    conversation_id uuid    NOT NULL,
    peer_id         uuid,
    last_event_id   uuid    NOT NULL,
    last_seq        bigint  NOT NULL,
    last_message_no bigint  NOT NULL,
    last_at_ms      bigint  NOT NULL,
    read_seq        bigint  NOT NULL,
    read_message_no bigint  NOT NULL,
    rev             bigint  NOT NULL,
    PRIMARY KEY (slot, user_id, conversation_id)
) PARTITION BY LIST (slot);

CREATE TABLE profile (
    slot    integer NOT NULL,
    user_id uuid    NOT NULL,
    name    text    NOT NULL,
    PRIMARY KEY (slot, user_id)
) PARTITION BY LIST (slot);

-- Makes a slot's leaves where they are missing: created standalone, then attached, which locks the parent only against
-- other attachments.
CREATE FUNCTION create_slot(p_slot integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    leaf   text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['conversation', 'member', 'event', 'inbox', 'profile'] LOOP
        leaf := parent || '_s' || p_slot;
        CONTINUE WHEN to_regclass(leaf) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', leaf, parent);
        IF parent = 'event' THEN
            EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (conversation_id, seq)', leaf);
            EXECUTE format('CREATE UNIQUE INDEX %I ON %I (conversation_id, sender_id, temp_id)', leaf || '_temp_id', leaf);
            EXECUTE format('CREATE UNIQUE INDEX %I ON %I (id)', leaf || '_id', leaf);
        ELSIF parent = 'inbox' THEN
            EXECUTE format('ALTER TABLE %I SET (fillfactor = 70)', leaf);
        END IF;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES IN (%s)', parent, leaf, p_slot);
    END LOOP;
    INSERT INTO slot_fence (slot) VALUES (p_slot) ON CONFLICT DO NOTHING;
END $$;

-- Opens or re-opens a lane: waits for the batch that the lane's old connection has in flight, and refuses all later ones
-- of it. False where a newer incarnation or token has it.
CREATE FUNCTION open_lane(p_node bigint, p_lane smallint, p_incarnation bigint, p_token bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- Against a taker that has locked the lanes it found: a lane that it did not see must not start before it is done.
    PERFORM 1 FROM slot_fence f WHERE f.node = p_node ORDER BY f.slot FOR SHARE;
    INSERT INTO lane AS l (node, lane, incarnation, token) VALUES (p_node, p_lane, p_incarnation, p_token)
    ON CONFLICT (node, lane) DO UPDATE SET incarnation = excluded.incarnation, token = excluded.token
        WHERE (l.incarnation, l.token) < (excluded.incarnation, excluded.token);
    RETURN FOUND;
END $$;

-- Changes the owner of slots. The order of the locks is what makes a deposed owner harmless: first the slots' fences
-- (against another taker), then every lane of the owners found there (after this their batches in flight are over, and
-- the next ones read the new epochs), then the change. Returns the slots that the taker owns now. Call it in autocommit
-- only: a taker that freezes must not hold these locks.
CREATE FUNCTION take_slots(p_node bigint, p_incarnation bigint, p_slots integer[], p_epochs bigint[])
RETURNS TABLE (slot integer) LANGUAGE plpgsql SET lock_timeout = '1500ms' AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM slot_fence f WHERE f.slot = ANY (p_slots) ORDER BY f.slot FOR UPDATE;
    PERFORM 1 FROM lane l
        WHERE l.node IN (SELECT f.node FROM slot_fence f WHERE f.slot = ANY (p_slots))
        ORDER BY l.node, l.lane FOR UPDATE;
    UPDATE slot_fence f SET epoch = want.epoch, node = p_node, incarnation = p_incarnation
        FROM unnest(p_slots, p_epochs) AS want (slot, epoch)
        WHERE f.slot = want.slot AND f.epoch < want.epoch;
    RETURN QUERY SELECT f.slot FROM slot_fence f
        JOIN unnest(p_slots, p_epochs) AS want (slot, epoch) ON f.slot = want.slot AND f.epoch = want.epoch
        WHERE f.node = p_node AND f.incarnation = p_incarnation;
END $$;

-- The fence of every write. First the lane, FOR SHARE: from here to the commit no epoch of this owner's slots can change.
-- Then the epochs, in a statement of its own, so with a snapshot taken after the lock was granted.
-- SQLSTATEs: TT001 the lane was re-opened by another; TT002 (raised by append_events) a duplicate or a stale seq;
-- TT003 slots that are not, or no longer, this owner's, listed in DETAIL.
CREATE FUNCTION check_fence(
    p_node bigint, p_lane smallint, p_incarnation bigint, p_token bigint, p_slots integer[], p_epochs bigint[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    stale text;
BEGIN
    PERFORM 1 FROM lane l
        WHERE l.node = p_node AND l.lane = p_lane AND l.incarnation = p_incarnation AND l.token = p_token FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TT001', MESSAGE = 'the lane was opened by another';
    END IF;
    SELECT string_agg(want.slot::text, ',') INTO stale
        FROM unnest(p_slots, p_epochs) AS want (slot, epoch)
        LEFT JOIN slot_fence f ON f.slot = want.slot AND f.epoch = want.epoch
            AND f.node = p_node AND f.incarnation = p_incarnation AND NOT f.sealed
        WHERE f.slot IS NULL;
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'TT003', MESSAGE = 'slots fenced', DETAIL = stale;
    END IF;
END $$;

-- One group commit of the append path: new conversations with their members, events, and cursors that moved.
-- The caller assigned ids and seqs from its memory; where that was stale, or an event is a duplicate, a unique index
-- stops it and the whole batch is refused with TT002: the caller then looks closer. Call it in autocommit only.
CREATE FUNCTION append_events(
    p_node bigint, p_lane smallint, p_incarnation bigint, p_token bigint, p_slots integer[], p_epochs bigint[],
    c_slot integer[], c_id uuid[], c_lo uuid[], c_hi uuid[], c_by uuid[], c_at bigint[],
    e_slot integer[], e_conversation uuid[], e_seq bigint[], e_id uuid[], e_message_no bigint[], e_kind smallint[],
    e_sender uuid[], e_at bigint[], e_temp_id text[], e_hash bigint[], e_body bytea[],
    k_slot integer[], k_consumer text[], k_event uuid[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    inserted bigint;
BEGIN
    PERFORM check_fence(p_node, p_lane, p_incarnation, p_token, p_slots, p_epochs);
    IF cardinality(c_slot) > 0 THEN
        INSERT INTO conversation (slot, id, kind, direct_lo, direct_hi, created_by, created_at_ms)
            SELECT c.slot, c.id, 1, c.lo, c.hi, c.by_user, c.at
            FROM unnest(c_slot, c_id, c_lo, c_hi, c_by, c_at) AS c (slot, id, lo, hi, by_user, at)
            ON CONFLICT DO NOTHING;
        INSERT INTO member (slot, conversation_id, user_id, joined_seq)
            SELECT c.slot, c.id, c.lo, 1 FROM unnest(c_slot, c_id, c_lo) AS c (slot, id, lo)
            UNION
            SELECT c.slot, c.id, c.hi, 1 FROM unnest(c_slot, c_id, c_hi) AS c (slot, id, hi)
            ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(e_slot) > 0 THEN
        INSERT INTO event (slot, conversation_id, seq, id, message_no, kind, sender_id, created_at_ms, temp_id, payload_hash, body)
            SELECT * FROM unnest(e_slot, e_conversation, e_seq, e_id, e_message_no, e_kind, e_sender, e_at, e_temp_id, e_hash, e_body)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS inserted = ROW_COUNT;
        IF inserted <> cardinality(e_slot) THEN
            RAISE EXCEPTION USING ERRCODE = 'TT002', MESSAGE = 'a duplicate or a stale seq';
        END IF;
    END IF;
    IF cardinality(k_slot) > 0 THEN
        INSERT INTO slot_cursor AS k (slot, consumer, event_id)
            SELECT * FROM unnest(k_slot, k_consumer, k_event)
            ON CONFLICT (slot, consumer) DO UPDATE SET event_id = excluded.event_id WHERE k.event_id < excluded.event_id;
    END IF;
END $$;

-- One commit of the mailbox path: folded inbox rows and changed profiles.
CREATE FUNCTION fold_inbox(
    p_node bigint, p_lane smallint, p_incarnation bigint, p_token bigint, p_slots integer[], p_epochs bigint[],
    i_slot integer[], i_user uuid[], i_conversation uuid[], i_peer uuid[], i_last_event uuid[], i_last_seq bigint[],
    i_last_message_no bigint[], i_last_at bigint[], i_read_seq bigint[], i_read_message_no bigint[], i_rev bigint[],
    u_slot integer[], u_id uuid[], u_name text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_fence(p_node, p_lane, p_incarnation, p_token, p_slots, p_epochs);
    IF cardinality(i_slot) > 0 THEN
        INSERT INTO inbox (slot, user_id, conversation_id, peer_id, last_event_id, last_seq, last_message_no, last_at_ms,
                           read_seq, read_message_no, rev)
            SELECT * FROM unnest(i_slot, i_user, i_conversation, i_peer, i_last_event, i_last_seq, i_last_message_no,
                                 i_last_at, i_read_seq, i_read_message_no, i_rev)
            ON CONFLICT (slot, user_id, conversation_id) DO UPDATE SET
                last_event_id = excluded.last_event_id, last_seq = excluded.last_seq,
                last_message_no = excluded.last_message_no, last_at_ms = excluded.last_at_ms,
                read_seq = excluded.read_seq, read_message_no = excluded.read_message_no, rev = excluded.rev;
    END IF;
    IF cardinality(u_slot) > 0 THEN
        INSERT INTO profile AS p (slot, user_id, name) SELECT * FROM unnest(u_slot, u_id, u_name)
            ON CONFLICT (slot, user_id) DO UPDATE SET name = excluded.name WHERE p.name <> excluded.name;
    END IF;
END $$;
