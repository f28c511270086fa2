//! From what the cluster answered to what the client is told.

use std::time::Instant;

use tertulia_shard_map::{ConversationId, Rev};
use tertulia_wire::{
    EventKind, MessageBody,
    client::{
        Ack, ClientEventKind, CommandId, ConversationRow, ErrorCode, ErrorReply, Event, HistoryPage, Profile,
        ProfileList, Reply, SyncPage,
    },
    cluster::{Append, Appended, HistoryEvents, InboxRow, NamedUser, Refusal, SyncRows},
};

use super::lanes::PendingSend;
use crate::{
    metrics::{ACK_LATENCY, HOLDS, MESSAGES_SENT, RETRIES},
    routing::HoldReason,
};

/// What a query asked for, as its answer needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    Sync,
    History(ConversationId),
    Profiles,
}

/// How a piece of work ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Attached(Rev),
    Appended(Appended),
    Synced(SyncRows),
    Read(HistoryEvents),
    Named(Vec<NamedUser>),
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It could not be carried out now. For a send: this attempt; for others: within the hold.
    Hold(HoldReason),
    Refused(Refusal),
}

/// The reply to a send that is over.
pub fn of_send(send: PendingSend, outcome: Outcome, now: Instant) -> (Option<CommandId>, Reply) {
    let reply = match outcome {
        Outcome::Appended(appended) => {
            metrics::counter!(MESSAGES_SENT, "status" => "ok").increment(1);
            metrics::histogram!(ACK_LATENCY).record(now.saturating_duration_since(send.received).as_secs_f64());
            let temp_id = send.append.temp_id.clone();
            Reply::Ack(Ack { temp_id, message: event(send.append, send.body, appended) })
        }
        other => {
            let error = unexpected(other);
            metrics::counter!(MESSAGES_SENT, "status" => code_name(error.code)).increment(1);
            Reply::Error(error)
        }
    };
    (send.id, reply)
}

/// The reply to a query that is over.
pub fn of_query(query: Query, outcome: Outcome) -> Reply {
    match (query, outcome) {
        (Query::Sync, Outcome::Synced(rows)) => Reply::SyncPage(SyncPage {
            conversations: rows.rows.into_iter().map(row).collect(),
            rev: rows.rev,
            has_more: rows.has_more,
            reset: rows.reset,
        }),
        (Query::History(conversation), Outcome::Read(read)) => history(conversation, read),
        (Query::Profiles, Outcome::Named(users)) => Reply::Profiles(ProfileList {
            users: users.into_iter().map(|it| Profile { user_id: it.user, name: Some(it.name) }).collect(),
        }),
        (_, other) => Reply::Error(unexpected(other)),
    }
}

/// The error for a failure; an answer of the wrong kind is an internal fault.
pub fn unexpected(outcome: Outcome) -> ErrorReply {
    match outcome {
        Outcome::Failed(Failure::Hold(_)) => {
            ErrorReply::new(ErrorCode::Unavailable, "the shard cannot be reached; try again")
        }
        Outcome::Failed(Failure::Refused(refusal)) => refused(refusal),
        Outcome::Attached(_) | Outcome::Appended(_) | Outcome::Synced(_) | Outcome::Read(_) | Outcome::Named(_) => {
            internal()
        }
    }
}

pub fn given_up() -> Outcome {
    Outcome::Failed(Failure::Hold(HoldReason::Behind))
}

pub fn overloaded(message: &str, retry_after_ms: u64) -> ErrorReply {
    ErrorReply::new(ErrorCode::Overloaded, message).with_retry_after_ms(retry_after_ms)
}

pub fn count_hold(reason: HoldReason, attempts_before: u32) {
    if attempts_before == 0 {
        metrics::counter!(HOLDS, "reason" => reason.as_str()).increment(1);
    }
    metrics::counter!(RETRIES, "reason" => reason.as_str()).increment(1);
}

fn refused(refusal: Refusal) -> ErrorReply {
    match refusal {
        Refusal::NotFound => {
            ErrorReply::new(ErrorCode::NotFound, "no such conversation, or you are not a member of it")
        }
        Refusal::Conflict => {
            ErrorReply::new(ErrorCode::Conflict, "this `temp_id` was used before with another payload")
        }
        Refusal::Overloaded { retry_after_ms } => overloaded("a queue is full", retry_after_ms),
        Refusal::Invalid(message) => ErrorReply::new(ErrorCode::BadRequest, message),
        Refusal::NotOwner { .. }
        | Refusal::NotServing
        | Refusal::StoreUnavailable
        | Refusal::NotLeader { .. }
        | Refusal::NotInitialised => ErrorReply::new(ErrorCode::Unavailable, "the shard is not served now; try again"),
        Refusal::Forbidden | Refusal::Internal => internal(),
    }
}

fn internal() -> ErrorReply {
    ErrorReply::new(ErrorCode::Internal, "a fault of the server's")
}

fn history(conversation_id: ConversationId, read: HistoryEvents) -> Reply {
    match read.events.iter().map(Event::from_record).collect::<Result<Vec<_>, _>>() {
        Ok(events) => Reply::HistoryPage(HistoryPage {
            conversation_id,
            events,
            has_more: read.has_more,
            last_seq: read.last_seq,
        }),
        Err(error) => {
            tracing::warn!(%conversation_id, %error, "a stored event cannot be read");
            Reply::Error(internal())
        }
    }
}

fn row(row: InboxRow) -> ConversationRow {
    ConversationRow {
        unread: row.unread(),
        conversation_id: row.conversation,
        peer_id: row.peer,
        last_seq: row.last_seq,
        last_event_id: row.last_event_id,
        last_at_ms: row.last_at_ms,
        read_seq: row.read_seq,
    }
}

/// The same as [`Event::from_record`] makes of the stored event, without decoding the body that was just encoded.
fn event(append: Append, body: MessageBody, appended: Appended) -> Event {
    let mut event = Event {
        id: appended.id,
        conversation_id: append.conversation,
        seq: appended.seq,
        message_no: appended.message_no,
        kind: match append.kind {
            EventKind::Message => ClientEventKind::Message,
        },
        sender_id: append.sender,
        created_at_ms: appended.created_at_ms,
        temp_id: append.temp_id,
        content: body.content,
        ciphertext: None,
        nonce: None,
        tag: None,
        key_version: None,
        algorithm: None,
        reply_to: body.reply_to,
    };
    if let Some(encrypted) = body.encrypted {
        event.ciphertext = Some(encrypted.ciphertext);
        event.nonce = Some(encrypted.nonce);
        event.tag = Some(encrypted.tag);
        event.key_version = Some(encrypted.key_version);
        event.algorithm = Some(encrypted.algorithm);
    }
    event
}

/// An error code as it is written, for labels.
pub const fn code_name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadFrame => "bad_frame",
        ErrorCode::BadRequest => "bad_request",
        ErrorCode::UnknownType => "unknown_type",
        ErrorCode::NotExpected => "not_expected",
        ErrorCode::Unauthorized => "unauthorized",
        ErrorCode::TokenExpired => "token_expired",
        ErrorCode::NotFound => "not_found",
        ErrorCode::Conflict => "conflict",
        ErrorCode::Overloaded => "overloaded",
        ErrorCode::Unavailable => "unavailable",
        ErrorCode::Internal => "internal",
    }
}
