//! What the app's back end may ask for, with an API key: `/v1/app`. Membership, roles and blocks do not stand in its way.

pub mod conversations;
pub mod messages;
pub mod users;
