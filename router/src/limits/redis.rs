//! Windows in Redis, for all routers together.

use std::time::Duration;

use redis::{AsyncConnectionConfig, RedisError, ServerErrorKind, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Limit, REDIS_PATIENCE, windows::Key};

/// One sorted set for each user and action: who did something, by the time at which Redis heard of it, in microseconds. In one step it
/// forgets what has left the window, and adds one more if there is room. The answer: whether it was added, how many there are then,
/// and how long until the oldest leaves.
///
/// Members are unique, so that two deeds in the same microsecond are two. The time is Redis's: routers' clocks do not matter.
const COUNT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local count, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - window))
local there = redis.call('ZCARD', KEYS[1])
local added = 0
if there < count then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    there, added = there + 1, 1
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return {added, there, tonumber(oldest) + window - now}
";
/// Between two attempts to reach a Redis that is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What became of one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Admitted { remaining: u32, resets_in: Duration },
    Refused { resets_in: Duration },
}

/// A connection, with the name that Redis has given the script.
#[derive(Clone)]
struct Ready {
    connection: MultiplexedConnection,
    script: String,
}

pub struct SharedWindows {
    client: redis::Client,
    ready: watch::Sender<Option<Ready>>,
    broken: Notify,
}

impl SharedWindows {
    pub fn new(client: redis::Client) -> Self {
        Self { client, ready: watch::Sender::new(None), broken: Notify::new() }
    }

    /// Connects, and again whenever somebody has found the connection of no use; until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let serving = async {
            loop {
                match timeout(2 * CONNECT_TIMEOUT, self.connect()).await {
                    Ok(Ok(ready)) => {
                        self.ready.send_replace(Some(ready));
                        self.broken.notified().await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "limits are this router's alone: Redis is away"),
                    Err(_) => tracing::debug!("limits are this router's alone: Redis does not answer"),
                }
                sleep(RETRY_PAUSE).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = serving => {}
        }
    }

    async fn connect(&self) -> Result<Ready, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(REDIS_PATIENCE));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let script = redis::cmd("SCRIPT").arg("LOAD").arg(COUNT).query_async(&mut connection).await?;
        Ok(Ready { connection, script })
    }

    /// `None` where Redis is away, slow, full, or has just lost the script.
    pub async fn count(&self, key: Key, limit: Limit) -> Option<Counted> {
        let mut ready = self.ready.borrow().clone()?;
        let member: [u8; 16] = rand::random();
        let mut call = redis::cmd("EVALSHA");
        call.arg(&ready.script)
            .arg(1)
            .arg(name(key))
            .arg(limit.count)
            .arg(limit.window.as_millis() as u64)
            .arg(&member);
        match call.query_async::<(u32, u32, u64)>(&mut ready.connection).await {
            Ok((added, there, resets_in_us)) => {
                let resets_in = Duration::from_micros(resets_in_us);
                Some(match added {
                    0 => Counted::Refused { resets_in },
                    _ => Counted::Admitted { remaining: limit.count.saturating_sub(there), resets_in },
                })
            }
            Err(error) => {
                let is_newest = self.ready.send_if_modified(|now| {
                    let was_ready = now.is_some();
                    *now = None;
                    was_ready
                });
                if is_newest {
                    match error.kind() {
                        redis::ErrorKind::Server(ServerErrorKind::NoScript) => {
                            tracing::info!("Redis has begun anew: it is given the script of the limits again");
                        }
                        _ => tracing::warn!(%error, "limits are this router's alone until Redis is back"),
                    }
                    self.broken.notify_one();
                }
                None
            }
        }
    }
}

fn name(key: Key) -> String {
    format!("limit:{}:{}", key.action.as_str(), key.user)
}
