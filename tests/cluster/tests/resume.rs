//! A device that loses its connection again and again, and comes back at another router each time, ends with what a device
//! has that never left, and with what one has that has just been set up.
//!
//! Random, by a seed that is printed: `TERTULIA_TEST_SEED` plays the same choices again (the timing is the machine's).

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tertulia_shard_map::{ConversationId, UserId};
use tertulia_test_support::{
    Cluster, DEADLINE, Device,
    actor::{Actor, Skin, message_in},
    client::message,
    device::Leaving,
};
use tertulia_wire::{
    ReactionChange,
    client::{
        ClientEventKind, Command, DeleteMessage, EditMessage, ErrorCode, Event, MembersChange, ReactToMessage,
        RenameConversation,
    },
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

const ROUNDS: u64 = 3;
/// What the others do in a round.
const DEEDS: usize = 150;
const EMOJI: [&str; 3] = ["👍", "😂", "!"];

fn seed() -> u64 {
    let seed = std::env::var("TERTULIA_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("TERTULIA_TEST_SEED={seed}");
    seed
}

fn edit(message: &Event, temp_id: String) -> Command {
    let content = format!("{temp_id}: better said");
    Command::Edit(EditMessage::plain(message.conversation_id, message.id, temp_id, content))
}

fn delete(message: &Event, temp_id: String) -> Command {
    Command::Delete(DeleteMessage { conversation_id: message.conversation_id, message_id: message.id, temp_id })
}

fn react(message: &Event, temp_id: String, emoji: &str, change: ReactionChange) -> Command {
    Command::React(ReactToMessage {
        conversation_id: message.conversation_id,
        message_id: message.id,
        temp_id,
        emoji: emoji.into(),
        change,
    })
}

/// Something about a message, or a new one where there is none yet.
fn deed(dice: &mut StdRng, mine: &[Event], all: &[Event], place: ConversationId, temp_id: String) -> Command {
    let change = if dice.random() { ReactionChange::Add } else { ReactionChange::Remove };
    let emoji = EMOJI.choose(dice).expect("not empty");
    match (dice.random_range(0..10), mine.choose(dice), all.choose(dice)) {
        (0, Some(message), _) => edit(message, temp_id),
        (1, Some(message), _) => delete(message, temp_id),
        (2..=4, _, Some(message)) => react(message, temp_id, emoji, change),
        _ => {
            let content = format!("{temp_id}: said");
            Command::Send(message_in(place, &temp_id, &content))
        }
    }
}

fn is_message(event: &&Event) -> bool {
    event.kind == ClientEventKind::Message
}

/// Of the device that comes and goes, at least: on a slow machine the others are done before.
const SESSIONS_MIN: u32 = 4;

/// Comes and goes, and speaks the while, also where it is not connected.
fn wander(mut phone: Device, places: [ConversationId; 2], seed: u64, go: watch::Receiver<bool>) -> JoinHandle<Device> {
    tokio::spawn(async move {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut number = 0;
        while *go.borrow() || phone.welcomes() < SESSIONS_MIN {
            match dice.random_range(0..10) {
                0 => phone.leave(Leaving::Drop).await,
                1 => phone.leave(Leaving::Close).await,
                2 => phone.read(*places.choose(&mut dice).expect("not empty")).await,
                3..=5 => {
                    number += 1;
                    let place = *places.choose(&mut dice).expect("not empty");
                    let all: Vec<Event> = phone.events(place).iter().filter(is_message).cloned().collect();
                    let mine: Vec<Event> = all.iter().filter(|it| it.sender_id == phone.user()).cloned().collect();
                    phone.say(deed(&mut dice, &mine, &all, place, format!("p{number}")));
                }
                _ => {}
            }
            phone.run(Duration::from_millis(dice.random_range(0..80))).await;
        }
        phone
    })
}

fn stay(mut laptop: Device, mut go: watch::Receiver<bool>) -> JoinHandle<Device> {
    tokio::spawn(async move {
        while *go.borrow_and_update() {
            laptop.run(Duration::from_millis(50)).await;
        }
        laptop
    })
}

/// What the others do: they write, change what they wrote, react, read, rename, and have members come and go.
struct Others {
    group: ConversationId,
    direct: ConversationId,
    actors: [Actor; 2],
    said: [Vec<Event>; 2],
    all: Vec<Event>,
    /// Of the group, besides those two: who comes and goes, and whether they are there.
    coming: Vec<(UserId, bool)>,
}

impl Others {
    async fn act(&mut self, dice: &mut StdRng, number: usize) {
        let temp_id = format!("o{number}");
        match dice.random_range(0..20) {
            0 => {
                let name = format!("renamed {number}");
                let rename = RenameConversation { conversation_id: self.group, temp_id, name };
                self.actors[0].make(Command::Rename(rename)).await;
            }
            1 | 2 => {
                let place = dice.random_range(0..self.coming.len());
                let (user, is_there) = &mut self.coming[place];
                let change = MembersChange { conversation_id: self.group, temp_id, user_ids: vec![*user] };
                let command = if *is_there { Command::RemoveMembers(change) } else { Command::AddMembers(change) };
                *is_there = !*is_there;
                self.actors[0].make(command).await;
            }
            3 | 4 => {
                let who = dice.random_range(0..2);
                if let Some(seq) = self.all.iter().filter(|it| it.conversation_id == self.group).map(|it| it.seq).max()
                {
                    self.actors[who].read(self.group, seq).await;
                }
            }
            _ => {
                // Bea has no direct conversation with Dana.
                let who = dice.random_range(0..2);
                let place = if who == 0 && dice.random() { self.direct } else { self.group };
                let here = |events: &[Event]| {
                    events.iter().filter(|it| it.conversation_id == place).cloned().collect::<Vec<_>>()
                };
                let command = deed(dice, &here(&self.said[who]), &here(&self.all), place, temp_id);
                match self.actors[who].try_make(command).await {
                    Ok(event) if is_message(&&event) => {
                        self.said[who].push(event.clone());
                        self.all.push(event);
                    }
                    Ok(_) => {}
                    Err(error) => expected(error.code),
                }
            }
        }
    }
}

/// What chance may ask for in vain: to change what is deleted, to react twice, to write where one was removed.
fn expected(code: ErrorCode) {
    assert!(matches!(code, ErrorCode::NotFound | ErrorCode::NoChange), "refused: {code:?}");
}

/// Everything that a device has: rows, and of each conversation that its user is in the events that a member may read.
fn holdings(device: &Device) -> String {
    let mut text = String::new();
    for (id, row) in device.rows() {
        text += &format!("{row:?}\n");
        let events = device.events(*id);
        for event in events.iter().filter(|event| row.left_seq.is_none() && event.seq >= row.joined_seq) {
            text += &format!("    {event:?}\n");
        }
    }
    text
}

/// Inbox rows follow the log within moments: until all of the user's devices have the same.
async fn all_the_same(cluster: &Cluster, name: &str, phone: &mut Device, laptop: &mut Device) -> Device {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut fresh = Device::new(cluster, 1, name, 0).await;
        for device in [&mut *phone, &mut *laptop, &mut fresh] {
            device.catch_up().await;
        }
        let is_over = Instant::now() > deadline;
        let (left, stayed, new) = (holdings(phone), holdings(laptop), holdings(&fresh));
        if is_over || (left == new && stayed == new) {
            assert_eq!(stayed, new, "who never left, and who has just come");
            assert_eq!(left, new, "who came and went, and who has just come");
            return fresh;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn who_comes_and_goes_ends_with_what_everybody_has() {
    let seed = seed();
    let cluster = Cluster::builder().start().await;
    for round in 0..ROUNDS {
        let mut dice = StdRng::seed_from_u64(seed.wrapping_add(round));
        let names = ["ana", "bea", "caro", "dana"].map(|name| format!("{name}{round}"));
        let mut ana = Actor::connect(&cluster, 1, &names[0], Skin::NativeJson).await;
        let bea = Actor::connect(&cluster, 2, &names[1], Skin::NativeMessagePack).await;
        let caro = cluster.login(&names[2]).await.user;
        let phone = Device::new(&cluster, 1, &names[3], dice.random()).await;
        let laptop = Device::new(&cluster, 2, &names[3], dice.random()).await;
        let dana = phone.user();
        let group = ana.create("g", "everybody", &[bea.user(), caro, dana]).await.conversation_id;
        let direct = ana.make(Command::Send(message(dana, "d", "for you alone"))).await.conversation_id;

        let (go, going) = watch::channel(true);
        let wandering = wander(phone, [group, direct], dice.random(), going.clone());
        let staying = stay(laptop, going);
        let coming = vec![(caro, true), (dana, true)];
        let (said, all) = ([Vec::new(), Vec::new()], Vec::new());
        let mut others = Others { group, direct, actors: [ana, bea], said, all, coming };
        for number in 0..DEEDS {
            others.act(&mut dice, number).await;
        }
        go.send(false).expect("the devices are there");
        let (mut phone, mut laptop) = (wandering.await.expect("no panic"), staying.await.expect("no panic"));

        let fresh = all_the_same(&cluster, &names[3], &mut phone, &mut laptop).await;
        phone.refused().iter().for_each(|error| expected(error.code));
        println!("round {round}: {} sessions, {} acked, at rev {}", phone.welcomes(), phone.acked().len(), phone.rev());
        assert_eq!((laptop.welcomes(), laptop.resyncs()), (1, 0), "it never left");

        // And the others have it too, but for whose reactions are one's own.
        for conversation in [group, direct] {
            let row = &fresh.rows()[&conversation];
            if row.left_seq.is_some() {
                continue;
            }
            let nobodys = |mut event: Event| {
                event.reactions.iter_mut().for_each(|it| it.mine = false);
                event
            };
            let theirs = others.actors[0].history(conversation).await.into_iter();
            let theirs: Vec<_> = theirs.filter(|event| event.seq >= row.joined_seq).map(nobodys).collect();
            let hers: Vec<_> = fresh.events(conversation).into_iter().map(nobodys).collect();
            assert_eq!(hers, theirs, "the same for every reader");
        }
    }
    cluster.assert_no_errors();
}
