//! What the passing of time does to a session: pings, deadlines, the end of its token, the router's stop.

use std::time::{Duration, Instant};

use tertulia_wire::client::{CloseCode, ErrorCode, ErrorReply, GoAway, Push};

use super::{Core, Effect, Leave, Now, Phase};
use crate::{
    auth::TokenError,
    commands::{Failure, Outcome},
    routing::HoldReason,
};

/// A token further in the future than this is looked at again then.
const EXPIRY_CHECK_MAX: Duration = Duration::from_secs(24 * 3600);
const LEAVE_POLL: Duration = Duration::from_millis(20);

impl Core {
    /// The router is about to stop.
    pub fn go_away(&mut self, leave: Box<Leave>, effects: &mut Vec<Effect>) {
        if self.leave.is_some() || matches!(self.phase, Phase::Closed) {
            return;
        }
        let retry_after_ms = leave.retry_after.as_millis() as u64;
        self.leave = Some(leave);
        effects.push(Effect::Push(Push::GoAway(GoAway { retry_after_ms })));
    }

    /// Time has passed: at least what [`Core::next_deadline`] said.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let interval = self.shared.policy.ping_interval;
        match &self.phase {
            Phase::Closed => return,
            Phase::AwaitHello { until, .. } if *until <= now.instant => {
                return self.close(CloseCode::HelloTimeout, effects);
            }
            Phase::Attaching { identity, .. } | Phase::Active { identity, .. }
                if identity.expires_at_ms <= now.unix_ms =>
            {
                let error = ErrorReply::new(ErrorCode::TokenExpired, TokenError::Expired.to_string());
                self.complain(None, error, effects);
                return self.close(CloseCode::Unauthorized, effects);
            }
            _ => {}
        }
        if self.lanes.next_expiry().is_some_and(|expiry| expiry <= now.instant) {
            let expired: Vec<_> = self.lanes.expire(now.instant).collect();
            for done in expired {
                self.end(done, Outcome::Failed(Failure::Hold(HoldReason::Behind)), now, effects);
            }
        }
        if let Some(leave) = &self.leave
            && (leave.close_by <= now.instant || (self.in_flight() == 0 && leave.close_from <= now.instant))
        {
            return self.close(CloseCode::GoingAway, effects);
        }
        if self.last_heard + 2 * interval <= now.instant {
            return self.close(CloseCode::PingTimeout, effects);
        }
        if self.next_ping <= now.instant {
            self.next_ping = now.instant + interval;
            self.shrink();
            effects.push(Effect::Ping);
        }
    }

    /// A burst must not hold its memory for as long as the session lives.
    fn shrink(&mut self) {
        if self.in_flight() == 0 {
            self.lanes.shrink();
            self.marks.shrink();
            self.queries.shrink_to_fit();
            self.typing = None;
        }
    }

    /// When [`Core::tick`] is due next.
    pub fn next_deadline(&self, now: Now) -> Instant {
        let mut next = self.next_ping.min(self.last_heard + 2 * self.shared.policy.ping_interval);
        match &self.phase {
            Phase::AwaitHello { until, .. } => next = next.min(*until),
            Phase::Attaching { identity, .. } | Phase::Active { identity, .. } => {
                let left_ms = identity.expires_at_ms.saturating_sub(now.unix_ms).max(0) as u64;
                next = next.min(now.instant + Duration::from_millis(left_ms).min(EXPIRY_CHECK_MAX));
            }
            Phase::Closed => {}
        }
        if let Some(expiry) = self.lanes.next_expiry() {
            next = next.min(expiry);
        }
        if let Some(leave) = &self.leave {
            // What is in flight past `close_from` is looked at every so often until the end.
            let poll = now.instant + LEAVE_POLL;
            next = next.min(if leave.close_from > now.instant { leave.close_from } else { poll.min(leave.close_by) });
        }
        next
    }
}
