//! How a session begins: from `hello` to `welcome`.

use tertulia_wire::{
    client::{
        ClientInfo, ClientVersion, CloseCode, Command, CommandId, ErrorCode, ErrorReply, Format, Hello, Reply,
        SessionLimits, Welcome, encode_commands,
    },
    cluster::{Answer, Attached, Refusal},
    limits,
};

use super::{
    ATTACHING_COMMANDS_MAX, Core, DISABLED, Effect, Job, Now, OVERLOADED_RETRY_AFTER_MS, Phase, Waiting,
    carry::OVERHEAD_BYTES,
};
use crate::{
    auth::{Identity, TokenError},
    commands::{Failure, Outcome, error_of, internal, overloaded, profile},
};

const HELLO: &str = "hello";

impl Core {
    pub(super) fn hello(&mut self, id: Option<CommandId>, hello: &Hello, now: Now, effects: &mut Vec<Effect>) {
        if let Err(error) = hello.validate() {
            return self.answer(id, HELLO, Reply::Error(error), effects);
        }
        // Before the token: an app that is too old is told so, whether or not it still has a good one.
        if let Err(error) = self.check_version(&hello.client) {
            self.answer(id, HELLO, Reply::Error(error), effects);
            return self.close(CloseCode::ClientOutdated, effects);
        }
        let identity = match self.identify(hello, now) {
            Ok(identity) => identity,
            Err(error) => return self.turn_away(id, error, effects),
        };
        let (user, name) = (identity.user, identity.name.clone());
        if let Phase::AwaitHello { user: Some(first), .. } = self.phase
            && first != user
        {
            let error = ErrorReply::new(ErrorCode::Unauthorized, "this session is another user's: connect anew");
            return self.turn_away(id, error, effects);
        }
        let ticket = self.ticket();
        self.phase = Phase::Attaching { hello: id, ticket, identity, waiting: Vec::new(), standing: None };
        // First the session can be found here, then the mailbox is read: what arrives between is seen twice, not missed.
        effects.push(Effect::SignIn(user));
        let deadline = now.instant + self.shared.policy.hold;
        effects.push(Effect::Start { ticket, job: Job::Attach { user, name }, deadline });
    }

    fn check_version(&self, client: &ClientInfo) -> Result<(), ErrorReply> {
        let Some(oldest) = self.shared.policy.min_client_version.get(&client.platform.to_lowercase()) else {
            return Ok(());
        };
        match client.version.parse::<ClientVersion>() {
            Ok(version) if version >= *oldest => Ok(()),
            _ => {
                let message = format!("{} clients need version {oldest} or a newer one", client.platform);
                Err(ErrorReply::new(ErrorCode::ClientOutdated, message))
            }
        }
    }

    fn identify(&self, hello: &Hello, now: Now) -> Result<Identity, ErrorReply> {
        let token = hello.token.as_deref().or(self.bearer.as_deref());
        let token = token.ok_or_else(|| ErrorReply::new(ErrorCode::Unauthorized, "a token is needed"))?;
        self.shared.verifier.verify(token, now.unix_ms).map_err(|error| {
            let code = if error == TokenError::Expired { ErrorCode::TokenExpired } else { ErrorCode::Unauthorized };
            ErrorReply::new(code, error.to_string())
        })
    }

    pub(super) fn wait_for_welcome(&mut self, id: Option<CommandId>, command: Command) -> Result<(), ErrorReply> {
        // About what it takes in memory, and rarely asked for.
        let bytes = encode_commands(Format::MessagePack, &[(0, &command)]).len();
        let held = self.hold(bytes + OVERHEAD_BYTES)?;
        match &mut self.phase {
            Phase::Attaching { waiting, .. } if waiting.len() < ATTACHING_COMMANDS_MAX => {
                waiting.push(Waiting { id, command, held });
                Ok(())
            }
            _ => Err(overloaded("too many commands before `welcome`", OVERLOADED_RETRY_AFTER_MS)),
        }
    }

    fn turn_away(&mut self, id: Option<CommandId>, error: ErrorReply, effects: &mut Vec<Effect>) {
        self.answer(id, HELLO, Reply::Error(error), effects);
        self.close(CloseCode::Unauthorized, effects);
    }

    pub(super) fn attached(&mut self, outcome: Outcome, now: Now, effects: &mut Vec<Effect>) {
        let until = now.instant + self.shared.policy.hello_timeout;
        let attaching = std::mem::replace(&mut self.phase, Phase::AwaitHello { until, user: None });
        let Phase::Attaching { hello, identity, waiting, standing, .. } = attaching else { return };
        self.phase = Phase::AwaitHello { until, user: Some(identity.user) };
        let disabled = || ErrorReply::new(ErrorCode::Forbidden, DISABLED);
        let error = match outcome {
            Outcome::Answered(Answer::Attach(attached)) if attached.profile.disabled => {
                return self.turn_away(hello, disabled(), effects);
            }
            Outcome::Failed(Failure::Refused(Refusal::NotAllowed(_))) => {
                return self.turn_away(hello, disabled(), effects);
            }
            Outcome::Answered(Answer::Attach(mut attached)) => {
                if let Some(standing) = standing {
                    attached.profile.shares_presence = standing.shares_presence;
                }
                self.welcome(hello, identity, attached, effects);
                for Waiting { id, command, held } in waiting {
                    drop(held);
                    self.command(id, command, now, effects);
                }
                return;
            }
            Outcome::Answered(_) => internal(),
            Outcome::Failed(failure) => error_of(failure),
        };
        // The client may try again: a socket never closes because a node is away.
        self.answer(hello, HELLO, Reply::Error(error.clone()), effects);
        for Waiting { id, command, .. } in waiting {
            self.answer(id, command.type_name(), Reply::Error(error.clone()), effects);
        }
    }

    fn welcome(&mut self, hello: Option<CommandId>, identity: Identity, attached: Attached, effects: &mut Vec<Effect>) {
        let policy = &self.shared.policy;
        let shares_presence = attached.profile.shares_presence;
        let mut user = profile(attached.profile, identity.user);
        user.name = user.name.or_else(|| identity.name.clone());
        let welcome = Welcome {
            user,
            session_id: self.id,
            rev: attached.rev,
            in_large_group: attached.in_large_group,
            ping_interval_ms: policy.ping_interval.as_millis() as u64,
            limits: SessionLimits {
                frame_bytes: limits::CLIENT_FRAME_BYTES as u64,
                frame_envelopes: limits::CLIENT_FRAME_ENVELOPES as u64,
                content_bytes: limits::CONTENT_BYTES as u64,
                ciphertext_bytes: limits::CIPHERTEXT_BYTES as u64,
                temp_id_bytes: limits::TEMP_ID_BYTES as u64,
                commands_in_flight: policy.commands_in_flight as u64,
            },
        };
        self.phase = Phase::Active { identity, shares_presence };
        self.bearer = None;
        self.answer(hello, HELLO, Reply::Welcome(welcome), effects);
    }
}
