//! Decides from what clients recorded and from what the stores hold whether Tertulia kept its promises: [`Invariant`].
//!
//! Pure: rows and records in, violations out. A send whose outcome the client never learned is *unknown*: it may be in
//! the log or not, but not twice. Rows come one conversation, one slot, one mailbox after the other, so that a
//! run of millions of messages needs the memory of its records and of its largest conversation.
//!
//! Absent: I8 and I9, which are about pushes and about faults.

mod inbox;
mod log;
mod owner;
mod reads;
mod violations;

pub use inbox::{ExpectedRow, InboxRow, MailboxCheck, MemberRow, Mirror};
pub use log::{ConversationCheck, Outcome, Sent, StoredEvent};
pub use owner::{SlotCheck, Transaction};
pub use reads::{ReaderCheck, check_own_read};
pub use tertulia_wire::Invariant;
pub use violations::Violations;
