use tertulia_wire::cluster::{DeliverStream, StreamResult};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{super::folder::FolderInputs, *};

const AWAY: StoreId = StoreId::new(1);
const HERE: StoreId = StoreId::new(2);

/// One slot of each store, and what waits to be folded.
fn sessions() -> (Sessions, [FolderInputs; 2]) {
    let [(away, of_away), (here, of_here)] = [FolderHandle::new(), FolderHandle::new()];
    let mut sessions = Sessions {
        folders: Arc::new([(AWAY, away), (HERE, here)].into()),
        slots: HashMap::new(),
        routers: HashMap::new(),
        slot_of: HashMap::new(),
        attached: Arc::default(),
        presence: PresenceHandle::new().0,
        large: Interest::default(),
        interest: InterestHandle::unheard(),
    };
    for (slot, store) in [(1, AWAY), (2, HERE)] {
        sessions.open(Slot::new(slot), Epoch::new(1), store);
    }
    (sessions, [of_away, of_here])
}

fn deliver(sessions: &mut Sessions, to: u16, bytes: usize) -> oneshot::Receiver<Vec<StreamResult>> {
    let (reply, answer) = oneshot::channel();
    let stream = DeliverStream { from: Slot::new(9), to: Slot::new(to), previous: None, deliveries: Vec::new() };
    let deliver = Deliver { entries: Vec::new(), streams: vec![stream] };
    sessions.deliver(deliver, DeliverReply::Local(reply), bytes, &mut Pushes::default());
    answer
}

#[test]
fn a_store_that_is_away_stops_no_delivery_to_another() {
    let (mut sessions, _waiting) = sessions();
    let all = 1 << 26;
    let mut first = deliver(&mut sessions, 1, all);
    assert_eq!(first.try_recv(), Err(TryRecvError::Empty), "it waits for its commit");
    let mut second = deliver(&mut sessions, 1, 1);
    assert_eq!(second.try_recv(), Ok(vec![StreamResult::Retry]));
    let mut other = deliver(&mut sessions, 2, all);
    assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
}
