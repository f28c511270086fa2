//! Names of the node's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const COMMIT_SECONDS: &str = "tertulia_node_commit_seconds";
pub const COMMIT_EVENTS: &str = "tertulia_node_commit_events";
pub const FENCED_BATCHES_TOTAL: &str = "tertulia_node_fenced_batches_total";
pub const DUPLICATE_BATCHES_TOTAL: &str = "tertulia_node_duplicate_batches_total";
pub const LANE_REOPEN_FAILURES_TOTAL: &str = "tertulia_node_lane_reopen_failures_total";
pub const FOLD_SECONDS: &str = "tertulia_node_fold_seconds";
pub const FOLD_ROWS: &str = "tertulia_node_fold_rows";
pub const INBOX_GAPS_TOTAL: &str = "tertulia_node_inbox_gaps_total";
pub const PUSHES_TOTAL: &str = "tertulia_node_pushes_total";
pub const EPHEMERAL_DROPPED_TOTAL: &str = "tertulia_node_ephemeral_dropped_total";
pub const ATTACHED_SESSIONS: &str = "tertulia_node_attached_sessions";
pub const PRESENCE_FAILURES_TOTAL: &str = "tertulia_node_presence_failures_total";
pub const SLOTS_OWNED: &str = "tertulia_node_slots_owned";
pub const SLOTS_SERVING: &str = "tertulia_node_slots_serving";
pub const NODES_ABSENT: &str = "tertulia_node_nodes_absent";
pub const SLOTS_REASSIGNED_TOTAL: &str = "tertulia_node_slots_reassigned_total";
pub const SLOTS_MOVED_TOTAL: &str = "tertulia_node_slots_moved_total";
pub const MOVES_ABORTED_TOTAL: &str = "tertulia_node_moves_aborted_total";
pub const MOVE_SEALED_SECONDS: &str = "tertulia_node_move_sealed_seconds";

/// Gives every metric its description, for the scraper.
pub fn describe() {
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "From handing a group of events to the store to its commit");
    describe_histogram!(COMMIT_EVENTS, Unit::Count, "Events in one group commit");
    describe_counter!(FENCED_BATCHES_TOTAL, Unit::Count, "Group commits that the fence stopped: this node was deposed");
    describe_counter!(DUPLICATE_BATCHES_TOTAL, Unit::Count, "Group commits that held a retry of a committed event");
    describe_counter!(LANE_REOPEN_FAILURES_TOTAL, Unit::Count, "Failed attempts to reach a store for writing");
    describe_histogram!(FOLD_SECONDS, Unit::Seconds, "From handing folded inbox rows to the store to their commit");
    describe_histogram!(FOLD_ROWS, Unit::Count, "Inbox rows in one commit");
    describe_counter!(
        INBOX_GAPS_TOTAL,
        Unit::Count,
        "Deliveries that found events missing in a mailbox: a store lost some"
    );
    describe_counter!(PUSHES_TOTAL, Unit::Count, "Events pushed to sessions, by way of their routers");
    describe_counter!(
        EPHEMERAL_DROPPED_TOTAL,
        Unit::Count,
        "Notices of who types and who is online that were dropped because something was busy"
    );
    describe_gauge!(ATTACHED_SESSIONS, Unit::Count, "Sessions attached to mailboxes of this node");
    describe_counter!(PRESENCE_FAILURES_TOTAL, Unit::Count, "Writes of who is online that Redis did not take");
    describe_gauge!(SLOTS_OWNED, Unit::Count, "Slots that the map gives to this incarnation of the node");
    describe_gauge!(NODES_ABSENT, Unit::Count, "Nodes that this one has not heard for node.node_timeout_ms");
    describe_counter!(
        SLOTS_REASSIGNED_TOTAL,
        Unit::Count,
        "Slots to which this node, leading, has given another owner, by why: take-over or balance"
    );
    describe_counter!(SLOTS_MOVED_TOTAL, Unit::Count, "Slots that this node, leading, has moved to another store");
    describe_counter!(MOVES_ABORTED_TOTAL, Unit::Count, "Moves that this node, leading, has given up");
    describe_histogram!(MOVE_SEALED_SECONDS, Unit::Seconds, "For how long the slots of a move took no writes");
    describe_gauge!(SLOTS_SERVING, Unit::Count, "Slots that this node has taken over in their store, and serves");
}
