//! Every call once: who may make it, and which part of the node carries it out.

use tertulia_runtime::PeerName;
use tertulia_wire::cluster::Call;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The map, Raft, and the node itself.
    Cluster,
    Conversations,
    Mailboxes,
}

/// The kinds of peers that may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callers {
    routers: bool,
    nodes: bool,
    operators: bool,
}

const NOBODY: Callers = Callers { routers: false, nodes: false, operators: false };
const EVERYBODY: Callers = Callers { routers: true, nodes: true, operators: true };
const ROUTERS: Callers = Callers { routers: true, ..NOBODY };
const NODES: Callers = Callers { nodes: true, ..NOBODY };
const OPERATORS: Callers = Callers { operators: true, ..NOBODY };
const NODES_AND_ROUTERS: Callers = Callers { operators: false, ..EVERYBODY };
const NODES_AND_OPERATORS: Callers = Callers { routers: false, ..EVERYBODY };

impl Callers {
    pub const fn include(self, peer: PeerName) -> bool {
        match peer {
            PeerName::Router(_) => self.routers,
            PeerName::Node(_) => self.nodes,
            PeerName::Operator => self.operators,
        }
    }
}

/// A router cannot write mailboxes directly, a node cannot pose as an operator.
pub const fn place(call: &Call) -> (Callers, Part) {
    match call {
        Call::Ping | Call::WatchMap { .. } | Call::Status => (EVERYBODY, Part::Cluster),
        Call::Raft(_) | Call::Heartbeat { .. } => (NODES, Part::Cluster),
        Call::Propose(_) => (NODES_AND_OPERATORS, Part::Cluster),
        Call::ChangeMembership(_) | Call::Initialise | Call::Load | Call::Moves => (OPERATORS, Part::Cluster),
        Call::Append(_)
        | Call::Mark(_)
        | Call::Block(_)
        | Call::Conversation(_)
        | Call::Members(_)
        | Call::Typing(_) => (ROUTERS, Part::Conversations),
        Call::History(_) => (NODES_AND_ROUTERS, Part::Conversations),
        Call::Interest(_) | Call::Heads(_) => (NODES, Part::Conversations),
        Call::Attach(_)
        | Call::Detach { .. }
        | Call::Sync(_)
        | Call::Inbox(_)
        | Call::Blocks(_)
        | Call::Profiles { .. }
        | Call::SetProfile(_)
        | Call::WatchPresence(_)
        | Call::UnwatchPresence(_) => (ROUTERS, Part::Mailboxes),
        Call::Deliver(_) | Call::DeliverTyping(_) | Call::Announce(_) => (NODES, Part::Mailboxes),
    }
}

#[cfg(test)]
mod tests {
    use tertulia_shard_map::{NodeId, RouterId, SessionId, UserId};

    use super::*;

    #[test]
    fn a_peer_may_make_its_own_calls_only() {
        let peers = [PeerName::Router(RouterId::new(1)), PeerName::Node(NodeId::new(1)), PeerName::Operator];
        let detach = Call::Detach { user: UserId::from_u128(1), session: SessionId::from_u128(2) };
        for (call, expected) in [
            (Call::Status, [true, true, true]),
            (Call::Raft(vec![].into()), [false, true, false]),
            (Call::Heads(vec![]), [false, true, false]),
            (Call::Announce(vec![]), [false, true, false]),
            (Call::Initialise, [false, false, true]),
            (Call::Load, [false, false, true]),
            (detach, [true, false, false]),
        ] {
            let (callers, _) = place(&call);
            assert_eq!(peers.map(|peer| callers.include(peer)), expected, "{call:?}");
        }
    }
}
