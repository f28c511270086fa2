//! A router is stopped while people chat on it: they are told, go to the other router, and lose nothing.

use std::time::Duration;

use tertulia_shard_map::{DirectPair, UserId};
use tertulia_test_support::{
    Cluster, Device, Member,
    actor::{Actor, Skin},
    client::{Closed, message},
    eventually,
};
use tertulia_wire::client::{CloseCode, Command, Push};
use tokio::{sync::watch, task::JoinHandle};

const PAIRS: u32 = 6;
/// How long people chat before the router is told to stop, and after it has stopped.
const CHAT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(15);
/// What everybody says at least, on a loaded machine.
const SAID_MIN: usize = 20;

struct Chatted {
    device: Device,
    peer: UserId,
    said: usize,
}

/// Says one thing after the other for as long as `go` says so, then waits for what is not acked yet.
fn chat(mut device: Device, peer: UserId, go: watch::Receiver<bool>) -> JoinHandle<Chatted> {
    tokio::spawn(async move {
        let mut said = 0;
        while *go.borrow() {
            said += 1;
            device.say(Command::Send(message(peer, &format!("t{said}"), &format!("message {said}"))));
            device.run(PAUSE).await;
        }
        device.run_until("to have everything acked", |device| device.is_online() && device.is_settled()).await;
        Chatted { device, peer, said }
    })
}

#[tokio::test]
async fn stopping_a_router_sends_everybody_to_the_other_and_loses_nothing() {
    let cluster = Cluster::builder().start().await;
    let (go, going) = watch::channel(true);
    let mut chats = Vec::new();
    for pair in 0..PAIRS {
        // Of every other pair both are on the router that stops, of the rest one.
        let a = Device::new(&cluster, 1, &format!("a{pair}"), pair.into()).await;
        let b = Device::new(&cluster, 1 + pair % 2, &format!("b{pair}"), (PAIRS + pair).into()).await;
        let (user_a, user_b) = (a.user(), b.user());
        chats.push([chat(a, user_b, going.clone()), chat(b, user_a, going.clone())]);
    }
    tokio::time::sleep(CHAT).await;
    let status = cluster.terminate(Member::Router(1)).await;
    assert!(status.success(), "a stop that was asked for: {status}");
    tokio::time::sleep(CHAT).await;
    go.send(false).expect("people chat");

    for (pair, [a, b]) in chats.into_iter().enumerate() {
        let [a, b] = [a.await.expect("a chat ends well"), b.await.expect("a chat ends well")];
        assert!(a.device.goaways() > 0 && a.device.welcomes() > 1, "a{pair} was told to go, and went");
        assert_eq!(b.device.goaways() > 0, pair % 2 == 0, "b{pair} was told only where it had to go");

        let conversation = DirectPair::new(a.device.user(), b.device.user()).conversation_id();
        let history = cluster.connect(2, &format!("a{pair}")).await.history(conversation).await;
        assert_eq!(history.len(), a.said + b.said, "pair {pair}: all that was said is there, once");
        let seqs: Vec<u64> = history.iter().map(|event| event.seq.get()).collect();
        assert_eq!(seqs, (1..=history.len() as u64).collect::<Vec<_>>());
        for Chatted { device, peer, said } in [a, b] {
            assert_eq!(device.refused(), [], "nothing was refused for good");
            assert_eq!(device.router(), 2, "the one that is left");
            assert!(said > SAID_MIN, "the chat went on: {said}");
            for event in device.acked() {
                assert_eq!(history.iter().find(|held| held.id == event.id), Some(event), "what was acked is there");
            }
            let own = history.iter().filter(|event| event.sender_id != peer).map(|event| event.temp_id.clone());
            assert!(own.eq((1..=said).map(|number| format!("t{number}"))), "in the order in which it was said");
            for closed in device.closes() {
                assert_eq!(*closed, Closed::Code(CloseCode::GoingAway.code()));
            }
        }
    }
    cluster.assert_no_errors();

    // The stopped router comes back as one like any other.
    cluster.start(Member::Router(1));
    cluster.wait_ready(Member::Router(1)).await;
    let (mut ana, mut bea) = (cluster.connect(1, "a0").await, cluster.connect(2, "b0").await);
    let sent = ana.send(bea.user(), "back", "here again").await;
    eventually("the message to arrive", async || (bea.new_message().await == sent).then_some(())).await;
}

#[tokio::test]
async fn whatever_a_client_speaks_it_is_told_to_go_and_goes_on_at_the_other_router() {
    let cluster = Cluster::builder().start().await;
    let mut bea = cluster.connect(2, "bea").await;
    let mut actors = Vec::new();
    for (number, skin) in Skin::ALL.into_iter().filter(|skin| skin.is_live()).enumerate() {
        let mut actor = Actor::connect(&cluster, 1, &format!("ana{number}"), skin).await;
        let sent = actor.send(bea.user(), "before", "I am about to move").await;
        let (_, rev) = actor.sync(tertulia_shard_map::Rev::ZERO).await;
        actors.push((actor, sent, rev));
    }
    let status = cluster.terminate(Member::Router(1)).await;
    assert!(status.success(), "a stop that was asked for: {status}");

    for (mut actor, sent, rev) in actors {
        let (user, skin) = (actor.user(), actor.skin());
        let told = actor.pushes_until_closed().await;
        let goaways = told.iter().filter(|push| matches!(push, Push::GoAway(_))).count();
        assert_eq!(goaways, 1, "{skin}: {told:?}");
        // The session is gone on its node as well, so this finds nobody.
        let missed = bea.send(user, &format!("to {user}"), "and while you moved?").await;
        assert_eq!(missed.conversation_id, sent.conversation_id);

        let mut again = Actor::connect(&cluster, 2, actor.name(), skin).await;
        eventually("the list to say what was missed", async || {
            let (rows, _) = again.sync(rev).await;
            rows.iter().any(|row| row.last_seq == missed.seq && row.unread == 1).then_some(())
        })
        .await;
        assert_eq!(again.history(sent.conversation_id).await, [sent, missed], "{skin}");
    }
    cluster.assert_no_errors();
}
