//! How ids and counters are described in an OpenAPI document. Only with the feature `openapi`, which routers turn on:
//! everybody else builds without it.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, SchemaFormat,
        schema::{Schema, Type},
    },
};

use crate::{ConversationId, EventId, MessageNo, Rev, Seq, UserId};

/// Stores keep counters as signed 64-bit integers.
const COUNTER_MAX: i64 = i64::MAX;

/// `first` are the characters that it may begin with. Written in capitals, read in either case.
fn ulid(first: &str, description: &str, example: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(format!("^[{first}][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{{25}}$")))
        .min_length(Some(26))
        .max_length(Some(26))
        .description(Some(description))
        .examples([example]);
    object.into()
}

fn counter(description: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .maximum(Some(COUNTER_MAX))
        .description(Some(description));
    object.into()
}

macro_rules! schemas {
    ($($name:ident: $schema:expr,)*) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    $schema
                }
            }

            impl ToSchema for $name {}
        )*
    };
}

schemas! {
    UserId: ulid("0-3", "The id of a user: a ULID. 26 zeros: the app itself.", "01BX5ZZKBKACTAV9WEVGEMMVRZ"),
    ConversationId: ulid(
        "0-7",
        "The id of a conversation: a ULID for a group, derived from the two users for a direct one.",
        "6MNRABV4JAQK84KD7DKFJANS4C",
    ),
    EventId: ulid("0-7", "The id of an event, unique in the cluster: a ULID.", "01K8ZN2B9P5YJ2W8D0H7G4C1FE"),
    Seq: counter("The place of an event in its conversation: contiguous from 1, the same for every reader."),
    MessageNo: counter("Messages so far in a conversation, an event itself included; edits, reactions and the like do not count."),
    Rev: counter("How far a mailbox has changed: the cursor of delta sync."),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_what_an_id_looks_like() {
        let schema = serde_json::to_value(UserId::schema()).unwrap();
        assert_eq!(schema["pattern"], "^[0-3][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$");
        assert!("01bx5zzkbkactav9wevgemmvrz".parse::<UserId>().is_ok(), "either case");
        assert!("01BX5ZZKBKACTAV9WEVGEMMVRU".parse::<UserId>().is_err(), "Crockford has no U");
    }
}
