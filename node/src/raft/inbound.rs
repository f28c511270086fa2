//! Answering the requests of other members.

use bytes::Bytes;
use tertulia_shard_map::NodeId;

use super::{
    Raft, codec,
    rpc::{Request, Response},
    types::{RaftNodeId, Snapshot},
};

impl Raft {
    /// Answers a request that came as `Call::Raft` from the node `from`, as its certificate names it. Returns at once:
    /// the answer waits for the disk, in a task of its own.
    pub fn handle(&self, from: NodeId, request: &Bytes, reply: impl FnOnce(Bytes) + Send + 'static) {
        let request = match codec::decode::<Request>(request) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%from, error = %anyhow::Error::new(error), "cannot read a raft request");
                return reply(encode(&Response::Failed("cannot read the request".to_owned())));
            }
        };
        if request.sender() != Some(RaftNodeId::from(from.get())) {
            tracing::warn!(%from, claimed = ?request.sender(), "refused a raft request made in another node's name");
            return reply(encode(&Response::Failed("the request is not its sender's".to_owned())));
        }
        let raft = self.inner.raft.clone();
        self.inner.inbound.spawn(async move {
            let response = answer(&raft, request).await;
            reply(encode(&response));
        });
    }
}

async fn answer(raft: &openraft::Raft<super::Types>, request: Request) -> Response {
    let failed = |error: &dyn std::error::Error| Response::Failed(error.to_string());
    match request {
        Request::AppendEntries(request) => {
            raft.append_entries(request).await.map_or_else(|e| failed(&e), Response::AppendEntries)
        }
        Request::Vote(request) => raft.vote(request).await.map_or_else(|e| failed(&e), Response::Vote),
        Request::Snapshot { vote, snapshot } => {
            let snapshot = Snapshot { meta: snapshot.meta, snapshot: Box::new(snapshot.state) };
            raft.install_full_snapshot(vote, snapshot).await.map_or_else(|e| failed(&e), Response::Snapshot)
        }
    }
}

fn encode(response: &Response) -> Bytes {
    // A response holds numbers, options and text only.
    codec::encode(response).expect("a response can be written as MessagePack").into()
}
