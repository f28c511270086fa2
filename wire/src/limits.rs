//! Hard limits of both protocols, as constants checked against each other at compile time.

macro_rules! client_limits {
    ($( $(#[$doc:meta])* $name:ident: $type:ty = $value:expr; )*) => {
        $( $(#[$doc])* pub const $name: $type = $value; )*

        /// Every limit that a client can meet. `docs/PROTOCOL.md` lists them under the same names, in lower case.
        pub const CLIENT_LIMITS: &[(&str, u64)] = &[$( (stringify!($name), $name as u64), )*];
    };
}

client_limits! {
    /// Largest client frame, in bytes, before and after decoding.
    CLIENT_FRAME_BYTES: usize = 64 * 1024;
    /// Largest frame to a client, in bytes: a full page of history, each of its bytes escaped as `\u0001`. What a client
    /// must be ready to read.
    SERVER_FRAME_BYTES: usize = 4 * 1024 * 1024;
    /// Most envelopes in one frame, from a client or to one.
    CLIENT_FRAME_ENVELOPES: usize = 64;
    /// Longest plain message text, in bytes of UTF-8.
    CONTENT_BYTES: usize = 16 * 1024;
    /// Longest ciphertext, in bytes.
    CIPHERTEXT_BYTES: usize = 32 * 1024;
    /// Longest `nonce`, `tag`, `key_version` and `algorithm`, in bytes each.
    CRYPTO_FIELD_BYTES: usize = 256;
    /// Longest `temp_id`, in bytes. At least 1.
    TEMP_ID_BYTES: usize = 64;
    /// Longest display name, in bytes of UTF-8.
    NAME_BYTES: usize = 128;
    /// Longest token, in bytes.
    TOKEN_BYTES: usize = 8 * 1024;
    /// Longest client platform or version text in `hello`, in bytes.
    CLIENT_INFO_BYTES: usize = 64;
    /// Most events in one page of history, and what a query without `limit` gets.
    HISTORY_PAGE_MAX: u32 = 200;
    HISTORY_PAGE_DEFAULT: u32 = 50;
    /// Most rows in one page of sync, and what a query without `limit` gets.
    SYNC_PAGE_MAX: u32 = 200;
    SYNC_PAGE_DEFAULT: u32 = 100;
    /// Most users in one `profile:get`.
    PROFILES_MAX: usize = 100;
    /// Longest emoji of a reaction, in bytes of UTF-8.
    EMOJI_BYTES: usize = 64;
    /// Most reactions of one user to one message.
    REACTIONS_PER_USER_MAX: u32 = 16;
    /// Most different emojis of all reactions to one message.
    REACTIONS_PER_MESSAGE_MAX: u32 = 64;
    /// Most attachments of one message.
    ATTACHMENTS_MAX: usize = 10;
    /// Longest `key`, `name` and `content_type` of an attachment, in bytes.
    ATTACHMENT_KEY_BYTES: usize = 512;
    ATTACHMENT_NAME_BYTES: usize = 255;
    CONTENT_TYPE_BYTES: usize = 127;
    /// Most users that one message mentions.
    MENTIONS_MAX: usize = 50;
    /// Most users that one command adds to a group or removes from it.
    GROUP_CHANGE_USERS_MAX: usize = 1000;
    /// Most members of a group.
    GROUP_MEMBERS_MAX: u64 = 100_000;
    /// Most members in one page, and what a query without `limit` gets.
    MEMBERS_PAGE_MAX: u32 = 500;
    MEMBERS_PAGE_DEFAULT: u32 = 100;
    /// Most users in one page of blocks, and what a query without `limit` gets.
    BLOCKS_PAGE_MAX: u32 = 500;
    BLOCKS_PAGE_DEFAULT: u32 = 100;
    /// Most users whose presence one session has subscribed to.
    PRESENCE_USERS_MAX: usize = 200;
    /// How long a `dm:typing` holds unless it is said again, in milliseconds.
    TYPING_EXPIRES_MS: u64 = 6000;
    /// Longest URL of an avatar, in bytes.
    AVATAR_URL_BYTES: usize = 2048;
}

/// Longest text of an error reply, in bytes, without the `…` that marks a cut.
pub const ERROR_MESSAGE_BYTES: usize = 300;
/// A page of history stops growing here, in bytes of bodies, so that a reply stays well below a cluster frame.
pub const HISTORY_PAGE_BYTES: usize = 512 * 1024;
/// Largest frame between two processes of the cluster, in bytes.
pub const CLUSTER_FRAME_BYTES: usize = 8 * 1024 * 1024;

const _: () =
    assert!(CONTENT_BYTES < CLIENT_FRAME_BYTES / 2, "a message must fit into a frame even where JSON escapes it");
const _: () = assert!(CIPHERTEXT_BYTES * 4 / 3 < CLIENT_FRAME_BYTES, "a ciphertext must fit into a frame as base64");
const _: () = assert!(HISTORY_PAGE_BYTES * 4 < CLUSTER_FRAME_BYTES, "a page must fit into a cluster frame");
const _: () =
    assert!(HISTORY_PAGE_BYTES * 6 < SERVER_FRAME_BYTES, "a page must fit into a frame where JSON escapes it");
const _: () = assert!(TOKEN_BYTES < CLIENT_FRAME_BYTES, "a hello must fit into a frame");
