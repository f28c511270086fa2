//! What the types alone cannot say about a command: limits, and fields that exclude or need each other.
//!
//! Every refusal is a `bad_request` that names the field.

use tertulia_shard_map::{ConversationId, Rev, Seq, UserId};

use super::{ErrorCode, ErrorReply, Hello, HistoryQuery, ProfileQuery, SendMessage, SyncQuery};
use crate::{
    Encrypted, MessageBody,
    limits::{
        CIPHERTEXT_BYTES, CLIENT_INFO_BYTES, CONTENT_BYTES, CRYPTO_FIELD_BYTES, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX,
        PROFILES_MAX, SYNC_PAGE_DEFAULT, SYNC_PAGE_MAX, TEMP_ID_BYTES, TOKEN_BYTES,
    },
};

/// A `dm:send` that may be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidSend {
    pub target: SendTarget,
    pub temp_id: String,
    pub body: MessageBody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendTarget {
    Conversation(ConversationId),
    /// The direct conversation with this user, which the first message creates.
    User(UserId),
}

/// A `history` that may be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidHistory {
    pub conversation_id: ConversationId,
    pub position: HistoryPosition,
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryPosition {
    Latest,
    After(Seq),
    Before(Seq),
}

/// A `sync` that may be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidSync {
    pub rev: Rev,
    pub limit: u32,
}

fn bad(message: impl Into<String>) -> ErrorReply {
    ErrorReply::new(ErrorCode::BadRequest, message)
}

fn check_bytes(field: &str, text: &str, max_bytes: usize) -> Result<(), ErrorReply> {
    match text.len() {
        0 => Err(bad(format!("`data.{field}`: must not be empty"))),
        bytes if bytes > max_bytes => {
            Err(bad(format!("`data.{field}`: {bytes} bytes, at most {max_bytes} are allowed")))
        }
        _ => Ok(()),
    }
}

fn check_limit(limit: Option<u32>, default: u32, max: u32) -> Result<u32, ErrorReply> {
    match limit {
        None => Ok(default),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(limit) => Err(bad(format!("`data.limit`: {limit} is not from 1 to {max}"))),
    }
}

impl SendMessage {
    pub fn validate(self) -> Result<ValidSend, ErrorReply> {
        let target = match (self.conversation_id, self.to) {
            (Some(conversation), None) => SendTarget::Conversation(conversation),
            (None, Some(user)) if user.is_valid() => SendTarget::User(user),
            (None, Some(_)) => return Err(bad("`data.to`: not the id of a user")),
            _ => return Err(bad("`data`: want exactly one of `conversation_id` and `to`")),
        };
        check_bytes("temp_id", &self.temp_id, TEMP_ID_BYTES)?;
        if self.temp_id.chars().any(char::is_control) {
            return Err(bad("`data.temp_id`: must not hold control characters"));
        }
        if let Some(content) = &self.content {
            check_bytes("content", content, CONTENT_BYTES)?;
        }
        let encrypted = encrypted(self.ciphertext, self.nonce, self.tag, self.key_version, self.algorithm)?;
        if self.content.is_some() == encrypted.is_some() {
            return Err(bad("`data`: want exactly one of `content` and the five fields of an encrypted message"));
        }
        let body = MessageBody { content: self.content, encrypted, reply_to: self.reply_to };
        Ok(ValidSend { target, temp_id: self.temp_id, body })
    }
}

fn encrypted(
    ciphertext: Option<String>,
    nonce: Option<String>,
    tag: Option<String>,
    key_version: Option<String>,
    algorithm: Option<String>,
) -> Result<Option<Encrypted>, ErrorReply> {
    let encrypted = match (ciphertext, nonce, tag, key_version, algorithm) {
        (None, None, None, None, None) => return Ok(None),
        (Some(ciphertext), Some(nonce), Some(tag), Some(key_version), Some(algorithm)) => {
            Encrypted { ciphertext, nonce, tag, key_version, algorithm }
        }
        _ => {
            return Err(bad("`data`: `ciphertext`, `nonce`, `tag`, `key_version` and `algorithm` need each other"));
        }
    };
    check_bytes("ciphertext", &encrypted.ciphertext, CIPHERTEXT_BYTES)?;
    check_bytes("nonce", &encrypted.nonce, CRYPTO_FIELD_BYTES)?;
    check_bytes("tag", &encrypted.tag, CRYPTO_FIELD_BYTES)?;
    check_bytes("key_version", &encrypted.key_version, CRYPTO_FIELD_BYTES)?;
    check_bytes("algorithm", &encrypted.algorithm, CRYPTO_FIELD_BYTES)?;
    Ok(Some(encrypted))
}

impl Hello {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_bytes("client.platform", &self.client.platform, CLIENT_INFO_BYTES)?;
        check_bytes("client.version", &self.client.version, CLIENT_INFO_BYTES)?;
        self.token.as_ref().map_or(Ok(()), |token| check_bytes("token", token, TOKEN_BYTES))
    }
}

impl HistoryQuery {
    pub fn validate(&self) -> Result<ValidHistory, ErrorReply> {
        let position = match (self.after_seq, self.before_seq) {
            (None, None) => HistoryPosition::Latest,
            (Some(seq), None) => HistoryPosition::After(in_range("after_seq", seq)?),
            (None, Some(seq)) => HistoryPosition::Before(in_range("before_seq", seq)?),
            (Some(_), Some(_)) => return Err(bad("`data`: want at most one of `after_seq` and `before_seq`")),
        };
        let limit = check_limit(self.limit, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX)?;
        Ok(ValidHistory { conversation_id: self.conversation_id, position, limit })
    }
}

impl SyncQuery {
    pub fn validate(&self) -> Result<ValidSync, ErrorReply> {
        if self.rev.get() > COUNTER_MAX {
            return Err(bad(format!("`data.rev`: at most {COUNTER_MAX}")));
        }
        let limit = check_limit(self.limit, SYNC_PAGE_DEFAULT, SYNC_PAGE_MAX)?;
        Ok(ValidSync { rev: self.rev, limit })
    }
}

/// Stores keep counters as signed 64-bit integers.
const COUNTER_MAX: u64 = i64::MAX as u64;

fn in_range(field: &str, seq: Seq) -> Result<Seq, ErrorReply> {
    if seq.get() > COUNTER_MAX { Err(bad(format!("`data.{field}`: at most {COUNTER_MAX}"))) } else { Ok(seq) }
}

impl ProfileQuery {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        match self.user_ids.len() {
            0 => Err(bad("`data.user_ids`: must not be empty")),
            users if users > PROFILES_MAX => {
                Err(bad(format!("`data.user_ids`: {users} users, at most {PROFILES_MAX} are allowed")))
            }
            _ => Ok(()),
        }
    }
}
