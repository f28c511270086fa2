//! People who go on chatting while something is done to the cluster.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tertulia_shard_map::{ConversationId, Seq, UserId};
use tertulia_test_support::{Client, Cluster, client::message};
use tertulia_wire::client::{Command, Reply};
use tokio::{sync::watch, task::JoinHandle};

const PAIRS: u32 = 12;
/// The longest that a message may take until it is acked, whatever is done, on a loaded machine.
const ACK_LIMIT: Duration = Duration::from_secs(8);

pub struct Chatting {
    go: watch::Sender<bool>,
    sending: Vec<JoinHandle<Sent>>,
}

struct Sent {
    client: Client,
    conversation: ConversationId,
    acked: BTreeMap<Seq, String>,
    /// The longest time that one message took.
    worst: Duration,
}

impl Chatting {
    pub async fn start(cluster: &Cluster) -> Self {
        let (go, going) = watch::channel(true);
        let mut sending = Vec::new();
        for pair in 0..PAIRS {
            let to = cluster.login(&format!("b{pair}")).await.user;
            let sender = cluster.connect(1 + pair % 2, &format!("a{pair}")).await;
            sending.push(keep_sending(sender, to, going.clone()));
        }
        Self { go, sending }
    }

    /// Has everybody end, and checks that the log is what was acknowledged.
    pub async fn check(self) {
        self.go.send_replace(false);
        for sending in self.sending {
            let Sent { mut client, conversation, acked, worst } = sending.await.expect("a sender ends well");
            println!("{} messages, the slowest took {} ms", acked.len(), worst.as_millis());
            assert!(worst < ACK_LIMIT, "a message took {worst:?}");
            let history = client.history(conversation).await;
            let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
            let expected: Vec<u64> = (1..=acked.len() as u64).collect();
            assert_eq!(seqs, expected, "contiguous, and no more than was acknowledged");
            for event in &history {
                assert_eq!(event.content.as_ref(), acked.get(&event.seq));
            }
        }
    }
}

/// Sends one message after the other for as long as `go` says so, each until it is acked.
fn keep_sending(mut client: Client, to: UserId, go: watch::Receiver<bool>) -> JoinHandle<Sent> {
    tokio::spawn(async move {
        let (mut acked, mut conversation, mut worst, mut number) = (BTreeMap::new(), None, Duration::ZERO, 0);
        while *go.borrow() {
            number += 1;
            let content = format!("message {number}");
            let since = Instant::now();
            loop {
                match client.call(Command::Send(message(to, &format!("t{number}"), &content))).await {
                    Reply::Ack(ack) => {
                        conversation = Some(ack.message.conversation_id);
                        acked.insert(ack.message.seq, content);
                        break;
                    }
                    Reply::Error(error) if error.retryable => {}
                    other => panic!("{other:?}"),
                }
            }
            worst = worst.max(since.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Sent { client, conversation: conversation.expect("something was sent"), acked, worst }
    })
}
