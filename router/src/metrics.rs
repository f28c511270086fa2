//! Every metric of the router, by name. Names without the `tertulia_` prefix are those of the team's first plan: its
//! dashboards keep working.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use tertulia_wire::client::Reply;

/// Answers to `dm:send`, by `status`: `ok` or the error code.
pub const MESSAGES_SENT: &str = "messages_sent_total";
/// From the owner's commit to the hand-over to the recipient's session. Two clocks: never below 0.
pub const DELIVERY_LATENCY: &str = "message_delivery_latency_seconds";
pub const ACTIVE_CONNECTIONS: &str = "active_websocket_connections";

pub const CONNECTIONS_REFUSED: &str = "tertulia_router_connections_refused_total";
pub const ACCEPT_ERRORS: &str = "tertulia_router_accept_errors_total";
pub const HANDSHAKES: &str = "tertulia_router_handshakes_total";
pub const SESSIONS_CLOSED: &str = "tertulia_router_sessions_closed_total";
/// Answers by the command's `type` and `status`: `ok` or the error code. Both are closed lists.
pub const COMMANDS: &str = "tertulia_router_commands_total";
/// Commands refused because a user did too much in a while, by action.
pub const LIMITED: &str = "tertulia_router_rate_limited_total";
pub const LIMITS_ALONE: &str = "tertulia_router_limits_alone_total";
pub const ERRORS: &str = "tertulia_router_errors_total";
pub const HOLDS: &str = "tertulia_router_holds_total";
pub const RETRIES: &str = "tertulia_router_retries_total";
/// REST requests answered, by method, path and status.
pub const REST_REQUESTS: &str = "tertulia_router_rest_requests_total";
pub const REST_LATENCY: &str = "tertulia_router_rest_latency_seconds";
pub const HELD_BYTES: &str = "tertulia_router_held_bytes";
pub const ACK_LATENCY: &str = "tertulia_router_ack_latency_seconds";
pub const PUSHES: &str = "tertulia_router_pushes_total";
pub const PUSHES_DROPPED: &str = "tertulia_router_pushes_dropped_total";
pub const EPHEMERAL_DROPPED: &str = "tertulia_router_ephemeral_dropped_total";
pub const PUSHES_UNREADABLE: &str = "tertulia_router_pushes_unreadable_total";
pub const RESYNCS: &str = "tertulia_router_resyncs_total";
pub const REATTACHED: &str = "tertulia_router_reattached_total";
pub const WATCHES_RENEWED: &str = "tertulia_router_presence_watches_renewed_total";
pub const DETACHES_DROPPED: &str = "tertulia_router_detaches_dropped_total";
pub const MAP_VERSION: &str = "tertulia_router_map_version";
pub const MAPS_REFUSED: &str = "tertulia_router_maps_refused_total";
pub const LINKS_UP: &str = "tertulia_router_links_up";

/// Registers the descriptions. Call once, after the recorder is installed.
pub fn describe() {
    describe_counter!(MESSAGES_SENT, "Sends answered, by status: ok or the error code");
    describe_histogram!(DELIVERY_LATENCY, Unit::Seconds, "From the commit of a message to the hand-over to a session");
    describe_gauge!(ACTIVE_CONNECTIONS, "Open WebSocket connections");
    describe_counter!(
        CONNECTIONS_REFUSED,
        "Connections closed at once, by reason: the router is full, or too many are from one address"
    );
    describe_counter!(ACCEPT_ERRORS, "Errors of accept, such as too many open files");
    describe_counter!(HANDSHAKES, "WebSocket handshakes, by outcome: ok, or why refused");
    describe_counter!(SESSIONS_CLOSED, "Sessions that ended, by reason");
    describe_counter!(COMMANDS, "Answers to commands, by the command's type and the status: ok or the error code");
    describe_counter!(LIMITED, "Commands refused because a user did too much in a while, by action");
    describe_counter!(LIMITS_ALONE, "Commands that this router counted alone, because Redis was away or slow");
    describe_counter!(ERRORS, "Error replies to clients, by code");
    describe_counter!(HOLDS, "Commands that could not be carried out at once and were held, by the first reason");
    describe_counter!(RETRIES, "Attempts after the first, by the reason of the one before");
    describe_counter!(REST_REQUESTS, "REST requests answered, by method, path and status");
    describe_histogram!(REST_LATENCY, Unit::Seconds, "From the head of a REST request to its answer");
    describe_gauge!(HELD_BYTES, Unit::Bytes, "Bytes of commands without an answer yet");
    describe_histogram!(ACK_LATENCY, Unit::Seconds, "From the receipt of a send to its ack");
    describe_counter!(PUSHES, "Pushes handed over to sessions");
    describe_counter!(PUSHES_DROPPED, "Pushes dropped because a session's queue was full; the client is told to sync");
    describe_counter!(EPHEMERAL_DROPPED, "Typing and presence dropped because a client reads slowly, by what");
    describe_counter!(PUSHES_UNREADABLE, "Events whose body this version cannot read");
    describe_counter!(RESYNCS, "Times that a session was told to sync again, by reason");
    describe_counter!(REATTACHED, "Sessions attached again after a change of owner or of link");
    describe_counter!(WATCHES_RENEWED, "Users whose presence was watched again after a change of owner or of link");
    describe_counter!(DETACHES_DROPPED, "Detaches that were not sent; the mailbox forgets the session with the link");
    describe_gauge!(MAP_VERSION, "Version of the shard map in use");
    describe_counter!(MAPS_REFUSED, "Maps that were not accepted, by reason");
    describe_gauge!(LINKS_UP, "Nodes that this router has a live connection to");
}

/// Counts one answer.
pub fn count_command(kind: &'static str, reply: &Reply) {
    metrics::counter!(COMMANDS, "type" => kind, "status" => status(reply)).increment(1);
}

/// As the label says it.
pub const fn status(reply: &Reply) -> &'static str {
    match reply {
        Reply::Error(error) => error.code.as_str(),
        _ => "ok",
    }
}
