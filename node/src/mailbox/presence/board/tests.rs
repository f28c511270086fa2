use tertulia_wire::{cluster::UnwatchPresence, limits::PRESENCE_USERS_MAX};

use super::*;

const SLOT: Slot = Slot::new(3);
const ANA: UserId = UserId::from_u128(1);
const BEA: UserId = UserId::from_u128(2);
const SESSION: SessionId = SessionId::from_u128(9);
const ROUTER: u8 = 1;

/// A board whose look-ups are answered by a word.
struct Stage {
    board: Board<u8>,
    started: Instant,
    now: Now,
    allowed: bool,
    effects: Vec<Effect<u8>>,
}

impl Stage {
    fn new() -> Self {
        let now = Now { at: Instant::now(), unix_ms: 1_000_000 };
        let mut stage = Self { board: Board::new(), started: now.at, now, allowed: true, effects: Vec::new() };
        stage.board.open(SLOT, Epoch::new(1), StoreId::new(1), now, &mut stage.effects);
        stage
    }

    /// Past the grace after the take-over.
    fn settled() -> Self {
        let mut stage = Self::new();
        stage.after(GRACE);
        stage
    }

    fn after(&mut self, time: Duration) {
        self.now = Now { at: self.now.at + time, unix_ms: self.now.unix_ms + time.as_millis() as i64 };
        self.board.tick(self.now, &mut self.effects);
    }

    fn attached(&mut self, user: UserId) {
        self.board.attached(SLOT, user, self.now, &mut self.effects);
    }

    fn watch(&mut self, ticket: Ticket, users: &[UserId]) {
        let watch = WatchPresence { slot: SLOT, watcher: BEA, session: SESSION, users: users.to_vec() };
        self.board.watch(ticket, watch, ROUTER, self.now, &mut self.effects);
    }

    fn look_up(&mut self) {
        for load in self.board.take_loads() {
            let found = vec![self.allowed; load.sights.len()];
            self.board.loaded(load, Ok(found), self.now, &mut self.effects);
        }
    }

    fn heard(&mut self) -> Vec<Effect<u8>> {
        self.effects.drain(..).filter(|it| !matches!(it, Effect::Online(_) | Effect::Offline(_))).collect()
    }
}

fn state(online: bool, last_seen_ms: Option<i64>) -> Presence {
    Presence { user: ANA, online, last_seen_ms }
}

fn answer(ticket: Ticket, online: bool, last_seen_ms: Option<i64>) -> Vec<Effect<u8>> {
    vec![Effect::Answer { ticket, states: vec![state(online, last_seen_ms)] }]
}

fn push(online: bool, last_seen_ms: Option<i64>) -> Vec<Effect<u8>> {
    vec![Effect::Push { connection: ROUTER, session: SESSION, presence: state(online, last_seen_ms) }]
}

#[test]
fn a_watcher_is_told_of_comings_and_goings_and_not_of_reconnects() {
    let mut stage = Stage::settled();
    stage.watch(1, &[ANA]);
    stage.look_up();
    assert_eq!(stage.heard(), answer(1, false, None));
    stage.attached(ANA);
    assert_eq!(stage.heard(), push(true, None));

    stage.board.left(SLOT, ANA, stage.now);
    stage.after(LINGER / 2);
    stage.attached(ANA);
    stage.after(LINGER);
    assert_eq!(stage.heard(), [], "a reconnect");

    let left_at = stage.now.unix_ms;
    stage.board.left(SLOT, ANA, stage.now);
    stage.after(LINGER);
    assert_eq!(stage.heard(), push(false, Some(left_at)));
    stage.watch(2, &[ANA]);
    stage.look_up();
    assert_eq!(stage.heard(), answer(2, false, Some(left_at)));
}

#[test]
fn redis_is_told_once_of_each_stay() {
    let mut stage = Stage::settled();
    stage.attached(ANA);
    stage.attached(ANA);
    stage.board.left(SLOT, ANA, stage.now);
    stage.after(LINGER);
    assert_eq!(stage.effects, [Effect::Online(ANA), Effect::Offline(ANA)]);
    stage.attached(ANA);
    stage.board.close(SLOT, &mut stage.effects);
    assert_eq!(stage.effects.last(), Some(&Effect::Gone(ANA)));
}

#[test]
fn who_may_not_see_sees_nobody_until_that_changes() {
    let mut stage = Stage::settled();
    stage.allowed = false;
    stage.attached(ANA);
    stage.watch(1, &[ANA]);
    stage.look_up();
    assert_eq!(stage.heard(), answer(1, false, None));
    stage.allowed = true;
    stage.board.sight_changed(Sight { user: ANA, watcher: BEA });
    stage.look_up();
    assert_eq!(stage.heard(), push(true, None), "a first message");
    stage.allowed = false;
    stage.board.user_changed(ANA);
    stage.look_up();
    assert_eq!(stage.heard(), push(false, None), "without a word of when she was last seen");
}

#[test]
fn what_was_looked_up_before_a_block_does_not_count() {
    let mut stage = Stage::settled();
    stage.attached(ANA);
    stage.watch(1, &[ANA]);
    let before = stage.board.take_loads().remove(0);
    stage.board.sight_changed(Sight { user: ANA, watcher: BEA });
    stage.board.loaded(before, Ok(vec![true]), stage.now, &mut stage.effects);
    assert_eq!(stage.heard(), []);
    stage.allowed = false;
    stage.look_up();
    assert_eq!(stage.heard(), answer(1, false, None));
}

#[test]
fn after_a_take_over_nobody_is_said_to_be_offline_at_once() {
    let mut stage = Stage::new();
    stage.watch(1, &[ANA]);
    stage.look_up();
    assert_eq!(stage.heard(), []);
    stage.after(GRACE / 2);
    stage.attached(ANA);
    stage.after(Duration::from_millis(250));
    assert_eq!(stage.heard(), answer(1, true, None));

    let mut stage = Stage::new();
    stage.watch(1, &[ANA]);
    stage.look_up();
    stage.after(GRACE);
    assert_eq!(stage.heard(), answer(1, false, None));
    assert!(stage.now.at > stage.started);
}

#[test]
fn when_the_grace_is_over_watchers_are_told_what_could_not_be_said_before() {
    let mut stage = Stage::settled();
    stage.attached(ANA);
    let left_at = stage.now.unix_ms;
    stage.board.left(SLOT, ANA, stage.now);
    stage.after(LINGER);
    stage.board.open(SLOT, Epoch::new(2), StoreId::new(1), stage.now, &mut stage.effects);
    stage.allowed = false;
    stage.watch(1, &[ANA]);
    stage.look_up();
    assert_eq!(stage.heard(), answer(1, false, None));
    stage.allowed = true;
    stage.board.sight_changed(Sight { user: ANA, watcher: BEA });
    stage.look_up();
    assert_eq!(stage.heard(), [], "she may be about to come");
    stage.after(GRACE);
    assert_eq!(stage.heard(), push(false, Some(left_at)));
    stage.after(GRACE);
    assert_eq!(stage.heard(), []);
}

#[test]
fn what_a_busy_router_did_not_take_is_told_again_as_it_is_by_then() {
    let mut stage = Stage::settled();
    stage.watch(1, &[ANA]);
    stage.look_up();
    stage.attached(ANA);
    stage.heard();
    let again = |stage: &mut Stage| {
        stage.board.tell_again(ROUTER, SESSION, ANA, &mut stage.effects);
        stage.heard()
    };
    assert_eq!(again(&mut stage), push(true, None));
    stage.board.unwatch(&UnwatchPresence { slot: SLOT, session: SESSION, users: vec![ANA] }, ROUTER);
    assert_eq!(again(&mut stage), []);
}

#[test]
fn a_failed_look_up_is_refused_and_done_again() {
    let mut stage = Stage::settled();
    stage.attached(ANA);
    stage.watch(1, &[ANA]);
    let load = stage.board.take_loads().remove(0);
    stage.board.loaded(load, Err(Refusal::StoreUnavailable), stage.now, &mut stage.effects);
    assert_eq!(stage.heard(), [Effect::Refuse { ticket: 1, refusal: Refusal::StoreUnavailable }]);
    stage.watch(2, &[ANA]);
    stage.look_up();
    assert_eq!(stage.heard(), answer(2, true, None));
    stage.after(Duration::from_millis(250));
    stage.look_up();
    assert_eq!(stage.heard(), []);
}

#[test]
fn watches_are_bounded_and_end() {
    let mut stage = Stage::settled();
    let many: Vec<UserId> = (0..PRESENCE_USERS_MAX as u128).map(|number| UserId::from_u128(100 + number)).collect();
    stage.watch(1, &many);
    stage.look_up();
    stage.heard();
    stage.watch(2, &[ANA]);
    assert!(matches!(stage.heard()[..], [Effect::Refuse { refusal: Refusal::LimitReached(_), .. }]));
    stage.board.unwatch(&UnwatchPresence { slot: SLOT, session: SESSION, users: many[..1].to_vec() }, ROUTER);
    stage.watch(3, &[ANA]);
    stage.look_up();
    assert_eq!(stage.heard(), answer(3, false, None));
    stage.board.connection_closed(ROUTER);
    stage.attached(ANA);
    assert_eq!(stage.heard(), [], "nobody is left to be told");

    stage.board.close(SLOT, &mut stage.effects);
    stage.heard();
    stage.watch(4, &[ANA]);
    assert_eq!(stage.heard(), [Effect::Refuse { ticket: 4, refusal: Refusal::NotServing }]);
}
