//! Schemas of single fields, with the limits that `wire::limits` has. JSON Schema counts characters where the protocol
//! counts bytes: what is beyond a limit here is beyond it there too, and what a schema cannot say is answered 422.

use tertulia_shard_map::{EventId, Rev, Seq, UserId};
use tertulia_wire::{client::FileAttachment, limits};
use utoipa::{
    ToSchema,
    openapi::{
        ArrayBuilder, KnownFormat, ObjectBuilder, OneOf, OneOfBuilder, Ref, SchemaFormat,
        schema::{AdditionalProperties, SchemaType, Type},
    },
};

/// Of one line: without control characters.
const NO_CONTROLS: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// A field that may be `null`, which is as good as absent.
fn or_null(schema: ObjectBuilder, kind: Type) -> ObjectBuilder {
    schema.schema_type(SchemaType::from_iter([kind, Type::Null]))
}

fn text(max_bytes: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(max_bytes))
}

fn line(max_bytes: usize) -> ObjectBuilder {
    text(max_bytes).pattern(Some(NO_CONTROLS))
}

fn page_limit(max: u32, default: u32) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
        .minimum(Some(1))
        .maximum(Some(max))
        .default(Some(default.into()))
        .description(Some("Most items of the page."))
}

fn users(max: usize) -> ArrayBuilder {
    ArrayBuilder::new().items(reference::<UserId>()).min_items(Some(1)).max_items(Some(max))
}

pub fn temp_id() -> ObjectBuilder {
    line(limits::TEMP_ID_BYTES)
        .examples(["01K8ZN2B7E9T5R1M0V3A6S8XQD"])
        .description(Some("Chosen by you, once, and kept over retries: makes a retry harmless, for ever."))
}

pub fn name() -> ObjectBuilder {
    line(limits::NAME_BYTES)
}

pub fn optional_name() -> ObjectBuilder {
    or_null(name(), Type::String).description(Some("From now on a token's `name` no longer counts."))
}

pub fn optional_avatar_url() -> ObjectBuilder {
    or_null(ObjectBuilder::new(), Type::String)
        .max_length(Some(limits::AVATAR_URL_BYTES))
        .pattern(Some(r"^(https?://[^\u0000-\u001f\u007f-\u009f]*)?$"))
        .description(Some("An http or https URL; empty for none."))
}

pub fn emoji() -> ObjectBuilder {
    line(limits::EMOJI_BYTES).examples(["👍"])
}

/// The body of a message, by what it consists of. Each form allows `null` for the fields of the others.
pub fn message() -> OneOf {
    let content = text(limits::CONTENT_BYTES).description(Some("Plain text.")).examples(["¿Qué tal?"]);
    let sealed = || {
        [
            ("ciphertext", text(limits::CIPHERTEXT_BYTES).description(Some("Opaque to the server."))),
            ("nonce", text(limits::CRYPTO_FIELD_BYTES)),
            ("tag", text(limits::CRYPTO_FIELD_BYTES)),
            ("key_version", text(limits::CRYPTO_FIELD_BYTES)),
            ("algorithm", text(limits::CRYPTO_FIELD_BYTES)),
        ]
    };
    let null = || ObjectBuilder::new().schema_type(Type::Null);
    let form = |title: &str| {
        let form =
            ObjectBuilder::new().title(Some(title)).additional_properties(Some(AdditionalProperties::FreeForm(false)));
        form.property("temp_id", temp_id()).required("temp_id")
    };
    let rest = |form: ObjectBuilder| {
        let answered = OneOfBuilder::new().item(reference::<EventId>()).item(null());
        let description = "The event that this answers. Passed on, not checked.";
        form.property("reply_to", answered.description(Some(description))).property("mentions", mentions())
    };
    let all_null = |form| sealed().into_iter().fold(form, |form: ObjectBuilder, (name, _)| form.property(name, null()));

    let plain = form("Plain").property("content", content).required("content").property("attachments", attachments());
    let encrypted = sealed()
        .into_iter()
        .fold(form("Encrypted"), |form, (name, schema)| form.property(name, schema).required(name))
        .property("content", null())
        .property("attachments", attachments());
    let files = form("Attachments alone")
        .property("attachments", attachments().min_items(Some(1)))
        .required("attachments")
        .property("content", null());
    OneOfBuilder::new()
        .item(rest(all_null(plain)))
        .item(rest(encrypted))
        .item(rest(all_null(files)))
        .description(Some("A message: plain text, or encrypted, or attachments."))
        .build()
}

/// The id of a group that is to be: a real ULID, unlike a direct conversation's.
pub fn group_id() -> ObjectBuilder {
    or_null(ObjectBuilder::new(), Type::String).pattern(Some("^[0-3][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$")).description(
        Some("A ULID of your making, once per group. Left out, one is derived from the creator and `temp_id`."),
    )
}

pub fn mentions() -> ArrayBuilder {
    users(limits::MENTIONS_MAX).min_items(None).description(Some("Users whom the sender wants to be told."))
}

pub fn group_users() -> ArrayBuilder {
    users(limits::GROUP_CHANGE_USERS_MAX)
}

pub fn first_members() -> ArrayBuilder {
    group_users().min_items(None).description(Some("The first members beside the creator."))
}

pub fn profile_users() -> ArrayBuilder {
    users(limits::PROFILES_MAX)
}

pub fn history_limit() -> ObjectBuilder {
    page_limit(limits::HISTORY_PAGE_MAX, limits::HISTORY_PAGE_DEFAULT)
}

pub fn sync_limit() -> ObjectBuilder {
    page_limit(limits::SYNC_PAGE_MAX, limits::SYNC_PAGE_DEFAULT)
}

pub fn members_limit() -> ObjectBuilder {
    page_limit(limits::MEMBERS_PAGE_MAX, limits::MEMBERS_PAGE_DEFAULT)
}

pub fn blocks_limit() -> ObjectBuilder {
    page_limit(limits::BLOCKS_PAGE_MAX, limits::BLOCKS_PAGE_DEFAULT)
}

/// Of an attachment, which is a type of the protocol: its limits are laid over its schema.
pub fn attachment_limits() -> [(&'static str, ObjectBuilder); 7] {
    let number = |max: i64| ObjectBuilder::new().minimum(Some(0)).maximum(Some(max));
    let pixels =
        || or_null(number(u32::MAX.into()), Type::Integer).description(Some("Of an image or a video, in pixels."));
    [
        ("size_bytes", number(i64::MAX).schema_type(Type::Integer)),
        ("width", pixels()),
        ("height", pixels()),
        ("duration_ms", or_null(number(i64::MAX), Type::Integer).description(Some("Of a video or a recording."))),
        ("key", line(limits::ATTACHMENT_KEY_BYTES).description(Some("Where the app finds the file."))),
        ("name", line(limits::ATTACHMENT_NAME_BYTES).description(Some("The file's name, as people know it."))),
        ("content_type", line(limits::CONTENT_TYPE_BYTES).description(Some("A media type: `image/jpeg`."))),
    ]
}

pub fn attachments() -> ArrayBuilder {
    ArrayBuilder::new().items(reference::<FileAttachment>()).max_items(Some(limits::ATTACHMENTS_MAX))
}

// Of a parameter, which cannot be `null` as an optional field of a body can.

fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

pub fn seq() -> Ref {
    reference::<Seq>()
}

pub fn rev() -> Ref {
    reference::<Rev>()
}

pub fn user_id() -> Ref {
    reference::<UserId>()
}
