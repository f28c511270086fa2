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
    name          text,                       -- of a group
    members       bigint   NOT NULL,          -- now
    large         boolean  NOT NULL,          -- has been above fanout_limit: fan-out by interest, for good
    created_by    uuid     NOT NULL,
    created_at_ms bigint   NOT NULL,
    PRIMARY KEY (slot, id),
    CHECK ((kind = 1) = (direct_lo IS NOT NULL AND direct_hi IS NOT NULL)),
    CHECK ((kind = 2) = (name IS NOT NULL))
) PARTITION BY LIST (slot);

-- A member, and the member's standing: watermarks, and in a direct conversation whether it blocks the other. The standing
-- is stamped with an id of the slot's log at each change (standing_id), so that fan-out tails both in one order.
-- Each leaf has an index on (standing_id): see create_slot.
CREATE TABLE member (
    slot            integer  NOT NULL,
    conversation_id uuid     NOT NULL,
    user_id         uuid     NOT NULL,
    role            smallint NOT NULL,        -- 0 member, 1 admin, 2 owner
    joined_seq      bigint   NOT NULL,        -- the first event that the member may read
    left_seq        bigint,                   -- the last one, once gone
    delivered_seq   bigint   NOT NULL DEFAULT 0,
    read_seq        bigint   NOT NULL DEFAULT 0,
    read_message_no bigint   NOT NULL DEFAULT 0,
    blocks_peer     boolean  NOT NULL DEFAULT false,
    standing_id     uuid,
    PRIMARY KEY (slot, conversation_id, user_id)
) PARTITION BY LIST (slot);

-- The log. Rows are never deleted: (conversation, sender, temp_id) with its payload hash makes retries harmless for ever.
-- A message's row follows its edits (body, edited_at_ms) and its deletion (empty body, deleted_at_ms); everything else
-- never changes. Each leaf has unique indexes on (conversation_id, seq), (conversation_id, sender_id, temp_id) and (id),
-- and an index on (conversation_id, target_seq): see create_slot.
CREATE TABLE event (
    conversation_id uuid     NOT NULL,
    id              uuid     NOT NULL,
    sender_id       uuid     NOT NULL,
    seq             bigint   NOT NULL CHECK (seq > 0),
    message_no      bigint   NOT NULL,
    created_at_ms   bigint   NOT NULL,
    payload_hash    bigint   NOT NULL,
    target_seq      bigint,                   -- the message that an edit, a deletion or a reaction is about
    target_id       uuid,
    edited_at_ms    bigint,
    deleted_at_ms   bigint,
    slot            integer  NOT NULL,
    kind            smallint NOT NULL,        -- see wire/src/event.rs
    temp_id         text COLLATE "C" NOT NULL,
    body            bytea    NOT NULL
) PARTITION BY LIST (slot);

-- The reactions that hold now.
CREATE TABLE reaction (
    slot            integer NOT NULL,
    conversation_id uuid    NOT NULL,
    message_seq     bigint  NOT NULL,
    user_id         uuid    NOT NULL,
    emoji           text COLLATE "C" NOT NULL,
    PRIMARY KEY (slot, conversation_id, message_seq, user_id, emoji)
) PARTITION BY LIST (slot);

-- One row per user and conversation: the fold of the log and of the members' standings. No index on rev: the row changes
-- with almost every message of its conversation, and without one each of those updates stays on its page (HOT). Sync reads
-- a user's rows and filters. Of a large group, last_* are as of the last entry that came here, and derived anew on read.
CREATE TABLE inbox (
    slot                 integer NOT NULL,
    user_id              uuid    NOT NULL,
    conversation_id      uuid    NOT NULL,
    peer_id              uuid,
    name                 text,
    large                boolean NOT NULL,
    joined_seq           bigint  NOT NULL,
    left_seq             bigint,
    last_event_id        uuid    NOT NULL,
    last_seq             bigint  NOT NULL,
    last_message_no      bigint  NOT NULL,
    last_at_ms           bigint  NOT NULL,
    read_seq             bigint  NOT NULL,
    read_message_no      bigint  NOT NULL,
    others_delivered_seq bigint  NOT NULL,
    others_read_seq      bigint  NOT NULL,
    rev                  bigint  NOT NULL,
    PRIMARY KEY (slot, user_id, conversation_id)
) PARTITION BY LIST (slot);

-- The blocks that concern a user, mirrored from the members' standings of direct conversations.
CREATE TABLE block (
    slot     integer NOT NULL,
    user_id  uuid    NOT NULL,
    other_id uuid    NOT NULL,
    by_user  boolean NOT NULL,                -- user_id blocks other_id
    by_other boolean NOT NULL,                -- and the reverse, of which user_id is not told
    PRIMARY KEY (slot, user_id, other_id)
) PARTITION BY LIST (slot);

CREATE TABLE profile (
    slot            integer NOT NULL,
    user_id         uuid    NOT NULL,
    name            text,
    own_name        boolean NOT NULL,         -- set by the user or the app: the token's no longer counts
    avatar_url      text,
    shares_presence boolean NOT NULL,
    disabled        boolean NOT NULL,
    PRIMARY KEY (slot, user_id)
) PARTITION BY LIST (slot);

-- Makes a slot's leaves where they are missing: created standalone, then attached, which locks the parent only against
-- other attachments.
CREATE FUNCTION create_slot(p_slot integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    leaf   text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['conversation', 'member', 'event', 'reaction', 'inbox', 'block', 'profile'] LOOP
        leaf := parent || '_s' || p_slot;
        CONTINUE WHEN to_regclass(leaf) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', leaf, parent);
        IF parent = 'event' THEN
            EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (conversation_id, seq)', leaf);
            EXECUTE format('CREATE UNIQUE INDEX %I ON %I (conversation_id, sender_id, temp_id)', leaf || '_temp_id', leaf);
            EXECUTE format('CREATE UNIQUE INDEX %I ON %I (id)', leaf || '_id', leaf);
            EXECUTE format('CREATE INDEX %I ON %I (conversation_id, target_seq) WHERE target_seq IS NOT NULL',
                           leaf || '_target', leaf);
        ELSIF parent = 'member' THEN
            EXECUTE format('CREATE INDEX %I ON %I (standing_id) WHERE standing_id IS NOT NULL', leaf || '_standing', leaf);
            EXECUTE format('ALTER TABLE %I SET (fillfactor = 70)', leaf);
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

-- One group commit of the append path: conversations and members that are new or changed, events with what they do to
-- earlier messages, members' standings, and cursors that moved. At most one row of each conversation, member and standing.
-- The caller assigned ids and seqs from its memory; where that was stale, or an event is a duplicate, a unique index
-- stops it and the whole batch is refused with TT002: the caller then looks closer. Call it in autocommit only.
CREATE FUNCTION append_events(
    p_node bigint, p_lane smallint, p_incarnation bigint, p_token bigint, p_slots integer[], p_epochs bigint[],
    c_slot integer[], c_id uuid[], c_kind smallint[], c_lo uuid[], c_hi uuid[], c_name text[], c_members bigint[],
    c_large boolean[], c_by uuid[], c_at bigint[],
    m_slot integer[], m_conversation uuid[], m_user uuid[], m_role smallint[], m_joined bigint[], m_left bigint[],
    e_slot integer[], e_conversation uuid[], e_seq bigint[], e_id uuid[], e_message_no bigint[], e_kind smallint[],
    e_sender uuid[], e_at bigint[], e_temp_id text[], e_hash bigint[], e_target_seq bigint[], e_target uuid[], e_body bytea[],
    r_slot integer[], r_conversation uuid[], r_message_seq bigint[], r_user uuid[], r_emoji text[], r_add boolean[],
    s_slot integer[], s_conversation uuid[], s_user uuid[], s_id uuid[], s_delivered bigint[], s_read bigint[],
    s_read_message_no bigint[], s_blocks boolean[],
    k_slot integer[], k_consumer text[], k_event uuid[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    inserted bigint;
    x        record;
BEGIN
    PERFORM check_fence(p_node, p_lane, p_incarnation, p_token, p_slots, p_epochs);
    IF cardinality(c_slot) > 0 THEN
        INSERT INTO conversation (slot, id, kind, direct_lo, direct_hi, name, members, large, created_by, created_at_ms)
            SELECT * FROM unnest(c_slot, c_id, c_kind, c_lo, c_hi, c_name, c_members, c_large, c_by, c_at)
            ON CONFLICT (slot, id) DO UPDATE SET
                name = excluded.name, members = excluded.members, large = excluded.large,
                created_by = excluded.created_by, created_at_ms = excluded.created_at_ms;
    END IF;
    IF cardinality(m_slot) > 0 THEN
        INSERT INTO member (slot, conversation_id, user_id, role, joined_seq, left_seq)
            SELECT * FROM unnest(m_slot, m_conversation, m_user, m_role, m_joined, m_left)
            ON CONFLICT (slot, conversation_id, user_id) DO UPDATE SET
                role = excluded.role, joined_seq = excluded.joined_seq, left_seq = excluded.left_seq;
    END IF;
    IF cardinality(e_slot) > 0 THEN
        INSERT INTO event (slot, conversation_id, seq, id, message_no, kind, sender_id, created_at_ms, temp_id, payload_hash,
                           target_seq, target_id, body)
            SELECT * FROM unnest(e_slot, e_conversation, e_seq, e_id, e_message_no, e_kind, e_sender, e_at, e_temp_id, e_hash,
                                 e_target_seq, e_target, e_body)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS inserted = ROW_COUNT;
        IF inserted <> cardinality(e_slot) THEN
            RAISE EXCEPTION USING ERRCODE = 'TT002', MESSAGE = 'a duplicate or a stale seq';
        END IF;
        -- Edits and deletions. On the leaf: an UPDATE through the parent would plan, and lock, every partition.
        IF ARRAY[2, 3]::smallint[] && e_kind THEN
            FOR x IN SELECT * FROM unnest(e_slot, e_conversation, e_kind, e_at, e_target_seq, e_body)
                         AS e (slot, conversation, kind, at, target, body) WHERE e.kind IN (2, 3)
            LOOP
                IF x.kind = 2 THEN
                    EXECUTE format('UPDATE event_s%s SET body = $3, edited_at_ms = $4 '
                                   'WHERE conversation_id = $1 AND seq = $2 AND deleted_at_ms IS NULL', x.slot)
                        USING x.conversation, x.target, x.body, x.at;
                ELSE
                    EXECUTE format('UPDATE event_s%s SET body = %L, deleted_at_ms = $3 '
                                   'WHERE conversation_id = $1 AND seq = $2', x.slot, ''::bytea)
                        USING x.conversation, x.target, x.at;
                    EXECUTE format('UPDATE event_s%s SET body = %L '
                                   'WHERE conversation_id = $1 AND target_seq = $2 AND kind = 2', x.slot, ''::bytea)
                        USING x.conversation, x.target;
                    EXECUTE format('DELETE FROM reaction_s%s WHERE conversation_id = $1 AND message_seq = $2', x.slot)
                        USING x.conversation, x.target;
                END IF;
            END LOOP;
        END IF;
    END IF;
    IF cardinality(r_slot) > 0 THEN
        FOR x IN SELECT * FROM unnest(r_slot, r_conversation, r_message_seq, r_user, r_emoji, r_add)
                     AS r (slot, conversation, message_seq, user_id, emoji, added)
        LOOP
            IF x.added THEN
                INSERT INTO reaction (slot, conversation_id, message_seq, user_id, emoji)
                    VALUES (x.slot, x.conversation, x.message_seq, x.user_id, x.emoji) ON CONFLICT DO NOTHING;
            ELSE
                EXECUTE format('DELETE FROM reaction_s%s '
                               'WHERE conversation_id = $1 AND message_seq = $2 AND user_id = $3 AND emoji = $4', x.slot)
                    USING x.conversation, x.message_seq, x.user_id, x.emoji;
            END IF;
        END LOOP;
    END IF;
    IF cardinality(s_slot) > 0 THEN
        -- Never inserts: who has a standing is a member. Were it not so, the row would be one of a member long gone.
        INSERT INTO member AS m (slot, conversation_id, user_id, role, joined_seq, left_seq, standing_id, delivered_seq,
                                 read_seq, read_message_no, blocks_peer)
            SELECT s.slot, s.conversation, s.user_id, 0, 1, 0, s.id, s.delivered, s.read, s.read_message_no, s.blocks
            FROM unnest(s_slot, s_conversation, s_user, s_id, s_delivered, s_read, s_read_message_no, s_blocks)
                AS s (slot, conversation, user_id, id, delivered, read, read_message_no, blocks)
            ON CONFLICT (slot, conversation_id, user_id) DO UPDATE SET
                standing_id = excluded.standing_id,
                delivered_seq = greatest(m.delivered_seq, excluded.delivered_seq),
                read_seq = greatest(m.read_seq, excluded.read_seq),
                read_message_no = greatest(m.read_message_no, excluded.read_message_no),
                blocks_peer = excluded.blocks_peer;
    END IF;
    IF cardinality(k_slot) > 0 THEN
        INSERT INTO slot_cursor AS k (slot, consumer, event_id)
            SELECT * FROM unnest(k_slot, k_consumer, k_event)
            ON CONFLICT (slot, consumer) DO UPDATE SET event_id = excluded.event_id WHERE k.event_id < excluded.event_id;
    END IF;
END $$;

-- One commit of the mailbox path: folded inbox rows, mirrored blocks, and profiles.
CREATE FUNCTION fold_inbox(
    p_node bigint, p_lane smallint, p_incarnation bigint, p_token bigint, p_slots integer[], p_epochs bigint[],
    i_slot integer[], i_user uuid[], i_conversation uuid[], i_peer uuid[], i_name text[], i_large boolean[],
    i_joined bigint[], i_left bigint[], i_last_event uuid[], i_last_seq bigint[], i_last_message_no bigint[],
    i_last_at bigint[], i_read_seq bigint[], i_read_message_no bigint[], i_others_delivered bigint[], i_others_read bigint[],
    i_rev bigint[],
    b_slot integer[], b_user uuid[], b_other uuid[], b_by_user boolean[], b_by_other boolean[],
    u_slot integer[], u_id uuid[], u_name text[], u_own_name boolean[], u_avatar text[], u_shares boolean[],
    u_disabled boolean[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_fence(p_node, p_lane, p_incarnation, p_token, p_slots, p_epochs);
    IF cardinality(i_slot) > 0 THEN
        INSERT INTO inbox (slot, user_id, conversation_id, peer_id, name, large, joined_seq, left_seq, last_event_id, last_seq,
                           last_message_no, last_at_ms, read_seq, read_message_no, others_delivered_seq, others_read_seq, rev)
            SELECT * FROM unnest(i_slot, i_user, i_conversation, i_peer, i_name, i_large, i_joined, i_left, i_last_event,
                                 i_last_seq, i_last_message_no, i_last_at, i_read_seq, i_read_message_no,
                                 i_others_delivered, i_others_read, i_rev)
            ON CONFLICT (slot, user_id, conversation_id) DO UPDATE SET
                name = excluded.name, large = excluded.large, joined_seq = excluded.joined_seq,
                left_seq = excluded.left_seq, last_event_id = excluded.last_event_id, last_seq = excluded.last_seq,
                last_message_no = excluded.last_message_no, last_at_ms = excluded.last_at_ms,
                read_seq = excluded.read_seq, read_message_no = excluded.read_message_no,
                others_delivered_seq = excluded.others_delivered_seq, others_read_seq = excluded.others_read_seq,
                rev = excluded.rev;
    END IF;
    IF cardinality(b_slot) > 0 THEN
        INSERT INTO block (slot, user_id, other_id, by_user, by_other)
            SELECT * FROM unnest(b_slot, b_user, b_other, b_by_user, b_by_other)
            ON CONFLICT (slot, user_id, other_id) DO UPDATE SET by_user = excluded.by_user, by_other = excluded.by_other;
    END IF;
    IF cardinality(u_slot) > 0 THEN
        INSERT INTO profile (slot, user_id, name, own_name, avatar_url, shares_presence, disabled)
            SELECT * FROM unnest(u_slot, u_id, u_name, u_own_name, u_avatar, u_shares, u_disabled)
            ON CONFLICT (slot, user_id) DO UPDATE SET
                name = excluded.name, own_name = excluded.own_name, avatar_url = excluded.avatar_url,
                shares_presence = excluded.shares_presence, disabled = excluded.disabled;
    END IF;
END $$;
