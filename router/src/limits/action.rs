//! What is limited.

use tertulia_shard_map::UserId;
use tertulia_wire::cluster::{Append, Authority, Call};

/// What users do, as far as it is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `dm:send`
    Send,
    /// `dm:edit`, `dm:delete`, `dm:react`
    Change,
    /// `conversation:create`, and everything that changes a group
    Group,
    /// `profile:set`, `block`, `unblock`
    Account,
}

impl Action {
    /// As in the configuration, in metrics and in `RateLimit-Policy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "sends",
            Self::Change => "changes",
            Self::Group => "groups",
            Self::Account => "account",
        }
    }
}

/// Something that a user is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed {
    pub user: UserId,
    pub action: Action,
}

impl Deed {
    /// `None` of what is not limited.
    pub fn of(call: &Call) -> Option<Self> {
        use tertulia_wire::cluster::Action as Asked;
        let (user, action) = match call {
            Call::Append(append) => {
                let Append { sender, authority: Authority::Member, .. } = **append else { return None };
                let action = match append.action {
                    Asked::Message { .. } => Action::Send,
                    Asked::Edit { .. } | Asked::Delete { .. } | Asked::React { .. } => Action::Change,
                    Asked::Create { .. }
                    | Asked::Rename { .. }
                    | Asked::Add { .. }
                    | Asked::Remove { .. }
                    | Asked::SetRole { .. }
                    | Asked::Leave => Action::Group,
                };
                (sender, action)
            }
            Call::Block(block) => (block.user, Action::Account),
            Call::SetProfile(change) => (change.user, Action::Account),
            _ => return None,
        };
        Some(Self { user, action })
    }
}
