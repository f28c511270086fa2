//! Making a new cluster: once, by an operator's command.

use std::{collections::BTreeMap, time::Duration};

use openraft::{
    BasicNode,
    error::{InitializeError, RaftError},
};
use tertulia_shard_map::{Change, ChangeRefused, ClusterId, NodeId, apply};
use tokio::time::timeout;

use super::{ProposeError, Raft, types::RaftNodeId};

/// Electing the first leader and committing the first map.
const FIRST_MAP_TIMEOUT: Duration = Duration::from_secs(5);

impl Raft {
    /// Makes a cluster of `members` (cluster address by node) whose first map is `genesis`, a [`Change::Genesis`].
    ///
    /// Where an earlier call died half-way (the members agreed, no map was applied), the same call completes it. A
    /// cluster that has a map refuses with [`ChangeRefused::AlreadyInitialised`].
    pub async fn initialise(
        &self,
        members: BTreeMap<NodeId, String>,
        genesis: Change,
    ) -> Result<ClusterId, ProposeError> {
        let Change::Genesis { cluster: wanted, .. } = genesis else {
            return Err(ProposeError::Refused(ChangeRefused::NotInitialised));
        };
        if let Some(existing) = self.cluster() {
            return Err(ProposeError::Refused(ChangeRefused::AlreadyInitialised(existing)));
        }
        // Before anything is decided: a genesis that is refused would leave members without a map.
        apply(None, &genesis).map_err(ProposeError::Refused)?;
        let members: BTreeMap<RaftNodeId, BasicNode> =
            members.into_iter().map(|(node, address)| (node.get().into(), BasicNode::new(address))).collect();
        match self.inner.raft.initialize(members).await {
            // Not allowed: this node has a log. It may lack the map still.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => return Err(ProposeError::NotAMember),
            Err(RaftError::Fatal(_)) => return Err(ProposeError::Stopped),
        }
        match self.propose_anywhere(genesis, FIRST_MAP_TIMEOUT).await {
            // A refusal may answer the second try of a genesis that was applied: the map says whose it is.
            Ok(_) | Err(ProposeError::Refused(_) | ProposeError::RefusedByLeader(_)) => self.wait_for_map().await?,
            Err(error) => return Err(error),
        }
        match self.cluster() {
            Some(cluster) if cluster == wanted => Ok(cluster),
            Some(existing) => Err(ProposeError::Refused(ChangeRefused::AlreadyInitialised(existing))),
            None => Err(ProposeError::Timeout),
        }
    }

    fn cluster(&self) -> Option<ClusterId> {
        self.inner.map.borrow().as_ref().map(|map| map.cluster())
    }

    /// Where another node leads, the map is applied there first.
    async fn wait_for_map(&self) -> Result<(), ProposeError> {
        let mut map = self.map();
        match timeout(FIRST_MAP_TIMEOUT, map.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Timeout),
        }
    }
}
