//! What a user may ask for: `/v1`, but for `/v1/app`. Each handler is one command of the protocol, or one page.

pub mod blocks;
pub mod conversations;
pub mod members;
pub mod messages;
pub mod profiles;
pub mod sync;
