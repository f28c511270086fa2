//! What REST asks of the cluster: every command that sessions have too, by `commands::execute`; and what only REST has,
//! by calls of its own, all of them here.

use std::{sync::Arc, time::Duration};

use tertulia_shard_map::{SessionId, Slot, UserId};
use tertulia_wire::{
    TraceId,
    client::{
        Ack, BlockList, Command, ConversationInfo, HistoryPage, Marked, MemberPage, Profile, ProfileList, Reply,
        SyncPage,
    },
    cluster::{Answer, Attach, Call, InboxPosition, InboxRead, InboxRows, ProfileRecord, SetProfile},
};
use tokio::time::Instant;

use super::{Left, Problem, sign_in::SignIn};
use crate::{
    auth::Identity,
    commands::{self, Caller, Outcome},
    limits::Limits,
    routing::{Key, Routes},
};

/// Longest hold of a request, whatever sessions' is: the client port gives a whole request 15 s.
pub const HOLD_MAX: Duration = Duration::from_secs(5);

/// One request's way into the cluster.
pub struct Ask<'a> {
    pub routes: &'a Arc<Routes>,
    pub limits: &'a Limits,
    /// For all that is asked.
    pub deadline: Instant,
    pub trace: Option<TraceId>,
    /// Where the answer's headers are to be told of a limit.
    pub left: Option<&'a Left>,
}

/// A reply of the one kind that a command has.
pub trait FromReply: Sized {
    fn from_reply(reply: Reply) -> Option<Self>;
}

/// The reply `ok`.
pub struct Done;

macro_rules! replies {
    ($($variant:ident($payload:ty),)*) => {
        $(impl FromReply for $payload {
            fn from_reply(reply: Reply) -> Option<Self> {
                match reply {
                    Reply::$variant(payload) => Some(payload),
                    _ => None,
                }
            }
        })*
    };
}

replies! {
    Ack(Ack),
    Marked(Marked),
    Conversation(ConversationInfo),
    MemberPage(MemberPage),
    SyncPage(SyncPage),
    HistoryPage(HistoryPage),
    Profiles(ProfileList),
    Profile(Profile),
    Blocks(BlockList),
}

impl FromReply for Done {
    fn from_reply(reply: Reply) -> Option<Self> {
        (reply == Reply::Ok).then_some(Self)
    }
}

impl Ask<'_> {
    pub async fn command<T: FromReply>(&self, caller: &Caller, command: Command) -> Result<T, Problem> {
        let what = command.type_name();
        let (reply, left) =
            commands::execute(self.routes, self.limits, caller, command, self.deadline, self.trace).await;
        if let (Some(left), Some(told)) = (left, self.left) {
            // One request is one command: there is nothing to overwrite.
            let _ = told.set(left);
        }
        match reply {
            Reply::Error(error) => Err(error.into()),
            reply => T::from_reply(reply).ok_or_else(|| {
                tracing::error!(what, "a command got a reply of another kind");
                Problem::internal()
            }),
        }
    }

    /// The conversation list, newest first.
    pub async fn inbox(&self, user: UserId, before: Option<InboxPosition>, limit: u32) -> Result<InboxRows, Problem> {
        let call = |_| Call::Inbox(InboxRead { user, before, limit });
        match self.call(Key::User(user), call).await? {
            Answer::Inbox(rows) => Ok(rows),
            _ => Err(unexpected()),
        }
    }

    /// What is known of a user; `None` of one who has never signed in.
    pub async fn profile(&self, user: UserId) -> Result<Option<ProfileRecord>, Problem> {
        let call = |slot| Call::Profiles { slot, users: vec![user] };
        match self.call(Key::User(user), call).await? {
            Answer::Profiles(found) => Ok(found.into_iter().find(|profile| profile.user == user)),
            _ => Err(unexpected()),
        }
    }

    pub async fn set_profile(&self, change: &SetProfile) -> Result<ProfileRecord, Problem> {
        match self.call(Key::User(change.user), |_| Call::SetProfile(change.clone())).await? {
            Answer::SetProfile(profile) => Ok(profile),
            _ => Err(unexpected()),
        }
    }

    /// Whether the user may come in; whom the cluster does not know is signed in first.
    pub async fn let_in(&self, identity: &Identity) -> Result<SignIn, Problem> {
        match self.profile(identity.user).await? {
            Some(profile) if profile.disabled => Ok(SignIn::Disabled),
            Some(profile) if profile.name.is_some() || identity.name.is_none() => Ok(SignIn::Welcome),
            _ => self.sign_in(identity).await,
        }
    }

    /// A session of no length: the cluster then knows the user, by the token's name.
    async fn sign_in(&self, identity: &Identity) -> Result<SignIn, Problem> {
        let (user, session) = (identity.user, SessionId::from_u128(rand::random()));
        let attach = |_| Call::Attach(Attach { user, session, name: identity.name.clone() });
        let sign_in = match self.call(Key::User(user), attach).await? {
            Answer::Attach(attached) if attached.profile.disabled => SignIn::Disabled,
            Answer::Attach(_) => SignIn::Welcome,
            _ => return Err(unexpected()),
        };
        // Where this is lost, the mailbox forgets the session with the router.
        let _ = self.call(Key::User(user), |_| Call::Detach { user, session }).await;
        Ok(sign_in)
    }

    async fn call(&self, key: Key, call: impl Fn(Slot) -> Call) -> Result<Answer, Problem> {
        match self.routes.hold(key, call, self.deadline, self.trace).await.0.into() {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Failed(failure) => Err(commands::error_of(failure).into()),
        }
    }
}

fn unexpected() -> Problem {
    tracing::error!("a node gave an answer of another kind");
    Problem::internal()
}
