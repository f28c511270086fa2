//! openraft's way to the other members: the process's one connection of class Raft to each.

use std::{error::Error, future::Future, iter, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    AnyError, BasicNode, RaftNetwork, RaftNetworkFactory, Vote,
    error::{Fatal, NetworkError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, RPCOption, RPCTypes},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use tertulia_runtime::rpc::{CallError, CallOptions, Client};
use tertulia_shard_map::NodeId;
use tertulia_wire::cluster::{Answer, Call};

use super::{
    codec,
    disk::StoredSnapshot,
    peers::Peers,
    rpc::{Request, Response, RpcError},
    types::{RaftNodeId, Snapshot, Types, node_id},
};

/// Pause before trying again a member that cannot be reached.
const UNREACHABLE_BACKOFF: Duration = Duration::from_millis(100);

/// Why a request has no response, in openraft's terms.
enum RequestError {
    /// Try again now.
    Timeout(Timeout<RaftNodeId>),
    /// Try again now.
    Network(NetworkError),
    /// Try again after [`UNREACHABLE_BACKOFF`].
    Unreachable(Unreachable),
}

impl From<RequestError> for RpcError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Timeout(error) => error.into(),
            RequestError::Network(error) => error.into(),
            RequestError::Unreachable(error) => error.into(),
        }
    }
}

impl From<RequestError> for StreamingError<Types, Fatal<RaftNodeId>> {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Timeout(error) => error.into(),
            RequestError::Network(error) => error.into(),
            RequestError::Unreachable(error) => error.into(),
        }
    }
}

pub(super) struct Network {
    node: NodeId,
    peers: Arc<Peers>,
}

impl Network {
    pub(super) fn new(node: NodeId, peers: Arc<Peers>) -> Self {
        Self { node, peers }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: RaftNodeId, member: &BasicNode) -> Peer {
        let target = node_id(target);
        Peer { node: self.node, target, client: self.peers.client(target, &member.addr) }
    }
}

/// One member, as seen from here.
pub(super) struct Peer {
    node: NodeId,
    target: NodeId,
    client: Client,
}

impl Peer {
    async fn ask(&self, action: RPCTypes, request: &Request, within: Duration) -> Result<Response, RequestError> {
        let bytes = codec::encode(request).map_err(|e| unreachable(&e))?;
        let answer = self.client.call(Call::Raft(Bytes::from(bytes)), CallOptions::within(within)).await;
        let bytes = match answer {
            Ok(Answer::Raft(bytes)) => bytes,
            Ok(_) => return Err(failed("an answer to another call")),
            Err(CallError::Deadline) => {
                let (id, target) = (self.node.get().into(), self.target.get().into());
                return Err(RequestError::Timeout(Timeout { action, id, target, timeout: within }));
            }
            // The connection broke: a new one may be up at once.
            Err(error @ CallError::Closed) => return Err(RequestError::Network(NetworkError::new(&error))),
            Err(error) => return Err(unreachable(&error)),
        };
        match codec::decode(&bytes) {
            // To ask again at once would end the same way: openraft pauses only for a member that is unreachable.
            Ok(Response::Failed(reason)) => Err(failed(reason)),
            Ok(response) => Ok(response),
            Err(error) => Err(unreachable(&error)),
        }
    }
}

fn unreachable(error: &(impl Error + 'static)) -> RequestError {
    RequestError::Unreachable(Unreachable::new(error))
}

fn failed(reason: impl ToString) -> RequestError {
    RequestError::Unreachable(AnyError::error(reason).into())
}

fn unexpected() -> RequestError {
    failed("a response to another request")
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftNodeId>, RpcError> {
        let request = Request::AppendEntries(request);
        match self.ask(RPCTypes::AppendEntries, &request, option.hard_ttl()).await? {
            Response::AppendEntries(response) => Ok(response),
            _ => Err(unexpected().into()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<RaftNodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftNodeId>, RpcError> {
        match self.ask(RPCTypes::Vote, &Request::Vote(request), option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            _ => Err(unexpected().into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<RaftNodeId>,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<RaftNodeId>, StreamingError<Types, Fatal<RaftNodeId>>> {
        let snapshot = StoredSnapshot { meta: snapshot.meta, state: *snapshot.snapshot };
        let request = Request::Snapshot { vote, snapshot };
        let response = tokio::select! {
            closed = cancel => return Err(closed.into()),
            response = self.ask(RPCTypes::InstallSnapshot, &request, option.hard_ttl()) => response,
        };
        match response? {
            Response::Snapshot(response) => Ok(response),
            _ => Err(unexpected().into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(iter::repeat(UNREACHABLE_BACKOFF))
    }
}
