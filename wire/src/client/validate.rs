//! What the types alone cannot say about a command: limits, and fields that exclude or need each other.
//!
//! Every refusal is a `bad_request` that names the field.

use std::mem;

use tertulia_shard_map::{ConversationId, Rev, Seq, UserId};

use super::{
    BlockQuery, CreateConversation, DeleteMessage, EditMessage, ErrorCode, ErrorReply, FileAttachment, Hello,
    HistoryQuery, LeaveConversation, ListBlocks, Mark, MembersChange, MembersQuery, PresenceQuery, ProfileChange,
    ProfileQuery, ReactToMessage, RenameConversation, RoleChange, SendMessage, SyncQuery,
};
use crate::{
    Attachment, Encrypted, MessageBody,
    limits::{
        ATTACHMENT_KEY_BYTES, ATTACHMENT_NAME_BYTES, ATTACHMENTS_MAX, AVATAR_URL_BYTES, BLOCKS_PAGE_DEFAULT,
        BLOCKS_PAGE_MAX, CIPHERTEXT_BYTES, CLIENT_INFO_BYTES, CONTENT_BYTES, CONTENT_TYPE_BYTES, CRYPTO_FIELD_BYTES,
        EMOJI_BYTES, GROUP_CHANGE_USERS_MAX, HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX, MEMBERS_PAGE_DEFAULT,
        MEMBERS_PAGE_MAX, MENTIONS_MAX, NAME_BYTES, PRESENCE_USERS_MAX, PROFILES_MAX, SYNC_PAGE_DEFAULT, SYNC_PAGE_MAX,
        TEMP_ID_BYTES, TOKEN_BYTES,
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
        check_temp_id(&self.temp_id)?;
        let encrypted = encrypted(self.ciphertext, self.nonce, self.tag, self.key_version, self.algorithm)?;
        let mut body = message_body(self.content, encrypted, self.attachments, self.mentions)?;
        body.reply_to = self.reply_to;
        Ok(ValidSend { target, temp_id: self.temp_id, body })
    }
}

impl EditMessage {
    /// The new content.
    pub fn validate(&mut self) -> Result<MessageBody, ErrorReply> {
        check_temp_id(&self.temp_id)?;
        let encrypted = encrypted(
            self.ciphertext.take(),
            self.nonce.take(),
            self.tag.take(),
            self.key_version.take(),
            self.algorithm.take(),
        )?;
        let (attachments, mentions) = (mem::take(&mut self.attachments), mem::take(&mut self.mentions));
        let mut body = message_body(self.content.take(), encrypted, attachments, mentions)?;
        body.reply_to = self.reply_to;
        Ok(body)
    }
}

impl DeleteMessage {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_temp_id(&self.temp_id)
    }
}

impl ReactToMessage {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_temp_id(&self.temp_id)?;
        check_text("emoji", &self.emoji, EMOJI_BYTES)
    }
}

impl CreateConversation {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_temp_id(&self.temp_id)?;
        check_text("name", &self.name, NAME_BYTES)?;
        if self.conversation_id.is_some_and(ConversationId::is_direct) {
            return Err(bad("`data.conversation_id`: the id of a direct conversation cannot be a group's"));
        }
        if self.user_ids.is_empty() { Ok(()) } else { check_users(&self.user_ids, GROUP_CHANGE_USERS_MAX) }
    }
}

impl RenameConversation {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_temp_id(&self.temp_id)?;
        check_text("name", &self.name, NAME_BYTES)
    }
}

impl MembersChange {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_temp_id(&self.temp_id)?;
        check_users(&self.user_ids, GROUP_CHANGE_USERS_MAX)
    }
}

impl RoleChange {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_temp_id(&self.temp_id)?;
        check_user("user_id", self.user_id)
    }
}

impl LeaveConversation {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_temp_id(&self.temp_id)
    }
}

/// Ids above `after`, at most `limit` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub after: Option<UserId>,
    pub limit: u32,
}

impl MembersQuery {
    pub fn validate(&self) -> Result<Page, ErrorReply> {
        let limit = check_limit(self.limit, MEMBERS_PAGE_DEFAULT, MEMBERS_PAGE_MAX)?;
        Ok(Page { after: self.after, limit })
    }
}

impl ListBlocks {
    pub fn validate(&self) -> Result<Page, ErrorReply> {
        let limit = check_limit(self.limit, BLOCKS_PAGE_DEFAULT, BLOCKS_PAGE_MAX)?;
        Ok(Page { after: self.after, limit })
    }
}

impl Mark {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        in_range("seq", self.seq).map(drop)
    }
}

impl BlockQuery {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_user("user_id", self.user_id)
    }
}

impl PresenceQuery {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        check_users(&self.user_ids, PRESENCE_USERS_MAX)
    }
}

impl ProfileChange {
    pub fn validate(&self) -> Result<(), ErrorReply> {
        self.name.as_ref().map_or(Ok(()), |name| check_text("name", name, NAME_BYTES))?;
        match &self.avatar_url {
            Some(url) if !url.is_empty() => {
                check_text("avatar_url", url, AVATAR_URL_BYTES)?;
                if url.starts_with("https://") || url.starts_with("http://") {
                    Ok(())
                } else {
                    Err(bad("`data.avatar_url`: want an http or https URL"))
                }
            }
            _ => Ok(()),
        }
    }
}

fn check_temp_id(temp_id: &str) -> Result<(), ErrorReply> {
    check_text("temp_id", temp_id, TEMP_ID_BYTES)
}

/// For texts of one line.
fn check_text(field: &str, text: &str, max_bytes: usize) -> Result<(), ErrorReply> {
    check_bytes(field, text, max_bytes)?;
    if text.chars().any(char::is_control) {
        return Err(bad(format!("`data.{field}`: must not hold control characters")));
    }
    Ok(())
}

fn check_user(field: &str, user: UserId) -> Result<(), ErrorReply> {
    if user.is_valid() { Ok(()) } else { Err(bad(format!("`data.{field}`: not the id of a user"))) }
}

fn check_users(users: &[UserId], max: usize) -> Result<(), ErrorReply> {
    match users.len() {
        0 => return Err(bad("`data.user_ids`: must not be empty")),
        count if count > max => {
            return Err(bad(format!("`data.user_ids`: {count} users, at most {max} are allowed")));
        }
        _ => {}
    }
    users.iter().try_for_each(|user| check_user("user_ids", *user))
}

fn message_body(
    content: Option<String>,
    encrypted: Option<Encrypted>,
    attachments: Vec<FileAttachment>,
    mentions: Vec<UserId>,
) -> Result<MessageBody, ErrorReply> {
    if let Some(content) = &content {
        check_bytes("content", content, CONTENT_BYTES)?;
    }
    match (content.is_some(), encrypted.is_some()) {
        (true, true) => {
            return Err(bad("`data`: want either `content` or the five fields of an encrypted message"));
        }
        (false, false) if attachments.is_empty() => {
            return Err(bad("`data`: want `content`, the five fields of an encrypted message, or `attachments`"));
        }
        _ => {}
    }
    if attachments.len() > ATTACHMENTS_MAX {
        return Err(bad(format!("`data.attachments`: at most {ATTACHMENTS_MAX} are allowed")));
    }
    attachments.iter().try_for_each(check_attachment)?;
    if !mentions.is_empty() {
        match mentions.len() {
            count if count > MENTIONS_MAX => {
                return Err(bad(format!("`data.mentions`: {count} users, at most {MENTIONS_MAX} are allowed")));
            }
            _ => mentions.iter().try_for_each(|user| check_user("mentions", *user))?,
        }
    }
    let attachments = attachments.into_iter().map(Attachment::from).collect();
    Ok(MessageBody { content, encrypted, reply_to: None, attachments, mentions })
}

fn check_attachment(attachment: &FileAttachment) -> Result<(), ErrorReply> {
    check_text("attachments.key", &attachment.key, ATTACHMENT_KEY_BYTES)?;
    check_text("attachments.name", &attachment.name, ATTACHMENT_NAME_BYTES)?;
    check_text("attachments.content_type", &attachment.content_type, CONTENT_TYPE_BYTES)?;
    if attachment.size_bytes > COUNTER_MAX || attachment.duration_ms.is_some_and(|ms| ms > COUNTER_MAX) {
        return Err(bad(format!("`data.attachments`: numbers are at most {COUNTER_MAX}")));
    }
    Ok(())
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
