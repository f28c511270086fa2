//! Publishes who is online to Redis, for the app's other services: `user:online:{user id}` exists while the user is
//! online.
//!
//! Nothing in the cluster reads it back. A Redis that is away, slow or flushed costs lateness only: the keys expire, and
//! everybody who is online is written again at each refresh.

use std::{collections::HashSet, time::Duration};

use redis::{AsyncConnectionConfig, Pipeline, RedisError, aio::MultiplexedConnection};
use tertulia_shard_map::UserId;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{clock, metrics as names};

/// A key outlives its session by at most so much, where nobody was left to delete it.
const TTL: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_millis(500);
const COMMANDS_PER_PIPELINE: usize = 1000;

enum Change {
    Online(UserId),
    Offline(UserId),
    /// The user's mailbox went to another owner, who publishes from now on.
    Gone(UserId),
}

/// Tells of users. Never waits: what is told is taken at once, also while Redis is away.
#[derive(Clone)]
pub struct RedisHandle(mpsc::UnboundedSender<Change>);

/// The other end of a [`RedisHandle`], for [`run`].
pub struct RedisInputs(mpsc::UnboundedReceiver<Change>);

impl RedisHandle {
    pub fn new() -> (Self, RedisInputs) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), RedisInputs(receiver))
    }

    pub(super) fn online(&self, user: UserId) {
        // At the stop of the process nobody is left to be told; the keys expire.
        let _ = self.0.send(Change::Online(user));
    }

    pub(super) fn offline(&self, user: UserId) {
        let _ = self.0.send(Change::Offline(user));
    }

    pub(super) fn gone(&self, user: UserId) {
        let _ = self.0.send(Change::Gone(user));
    }
}

/// Runs until `stop`.
pub async fn run(client: redis::Client, inputs: RedisInputs, stop: CancellationToken) -> anyhow::Result<()> {
    let mut changes = inputs.0;
    let mut publisher = Publisher { client, connection: None };
    let mut online: HashSet<UserId> = HashSet::new();
    let mut received = Vec::new();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut commands = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            count = changes.recv_many(&mut received, COMMANDS_PER_PIPELINE) => {
                if count == 0 {
                    return Ok(());
                }
                for change in received.drain(..) {
                    match change {
                        Change::Online(user) => {
                            online.insert(user);
                            commands.push(Command::Set(user));
                        }
                        Change::Offline(user) => {
                            online.remove(&user);
                            commands.push(Command::Delete(user));
                        }
                        Change::Gone(user) => drop(online.remove(&user)),
                    }
                }
            }
            _ = refresh.tick() => commands.extend(online.iter().copied().map(Command::Set)),
        }
        for commands in commands.chunks(COMMANDS_PER_PIPELINE) {
            if let Err(error) = publisher.publish(commands).await {
                metrics::counter!(names::PRESENCE_FAILURES_TOTAL).increment(1);
                tracing::debug!(error = %clock::chain(&error), "presence is not published: Redis is away");
                break;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Command {
    Set(UserId),
    Delete(UserId),
}

struct Publisher {
    client: redis::Client,
    connection: Option<MultiplexedConnection>,
}

impl Publisher {
    /// A connection that turns out to be broken is worth one more try, on a new one.
    async fn publish(&mut self, commands: &[Command]) -> Result<(), RedisError> {
        let was_connected = self.connection.is_some();
        match self.try_publish(commands).await {
            Err(_) if was_connected => self.try_publish(commands).await,
            outcome => outcome,
        }
    }

    async fn try_publish(&mut self, commands: &[Command]) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            match command {
                Command::Set(user) => pipeline.set_ex(key(*user), 1, TTL.as_secs()).ignore(),
                Command::Delete(user) => pipeline.del(key(*user)).ignore(),
            };
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(TIMEOUT))
                    .set_response_timeout(Some(TIMEOUT));
                self.client.get_multiplexed_async_connection_with_config(&config).await?
            }
        };
        // Kept only while it works.
        pipeline.query_async::<()>(&mut connection).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

fn key(user: UserId) -> String {
    format!("user:online:{user}")
}
