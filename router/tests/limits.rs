//! Limits of several routers, in a real Redis.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use tertulia_router::limits::{Action, Deed, Limits};
use tertulia_runtime::config::LimitsConfig;
use tertulia_shard_map::UserId;
use tertulia_test_support::{Cluster, Member, eventually};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const WINDOW: Duration = Duration::from_millis(400);
const COUNT: u32 = 7;
const ROUTERS: usize = 6;

/// As one router has them.
fn router(cluster: &Cluster, stop: &CancellationToken) -> Limits {
    let client = redis::Client::open(format!("redis://{}/0", cluster.address(Member::Redis))).unwrap();
    let window_ms = WINDOW.as_millis() as u64;
    let config = LimitsConfig { enabled: true, window_ms, sends: COUNT, ..LimitsConfig::default() };
    let limits = Limits::new(config, client);
    tokio::spawn(limits.clone().run(stop.clone()));
    limits
}

fn deed(user: u128) -> Deed {
    Deed { user: UserId::from_u128(user), action: Action::Send }
}

/// Waits until the routers count together: what each of them admits alone would be as much.
async fn together(routers: &[Limits]) {
    for number in 0.. {
        let user = 1_000 + number;
        let mut admitted = 0;
        for limits in routers.iter().cycle().take(2 * COUNT as usize) {
            admitted += u32::from(limits.admit(deed(user)).await.is_ok());
        }
        if admitted == COUNT {
            return;
        }
        assert!(number < 100, "{admitted} of {COUNT}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// When something was admitted, at the earliest and at the latest.
#[derive(Debug, Clone, Copy)]
struct Admitted {
    not_before: Instant,
    not_after: Instant,
}

#[tokio::test]
async fn never_more_than_the_limit_in_any_window_at_all_routers_together() {
    let cluster = Cluster::builder().nodes(0).routers(0).start().await;
    let stop = CancellationToken::new();
    let routers: Vec<Limits> = (0..ROUTERS).map(|_| router(&cluster, &stop)).collect();
    together(&routers).await;

    let (user, time) = (1, 8 * WINDOW);
    let start = Instant::now();
    let asking = routers.iter().cloned().map(|limits| {
        tokio::spawn(async move {
            let mut admitted = Vec::new();
            while start.elapsed() < time {
                let not_before = Instant::now();
                match limits.admit(deed(user)).await {
                    Ok(_) => admitted.push(Admitted { not_before, not_after: Instant::now() }),
                    Err(limited) => assert!(limited.allowance.resets_in <= WINDOW, "{limited:?}"),
                }
                sleep(Duration::from_millis(rand::random_range(0..20))).await;
            }
            admitted
        })
    });
    let mut admitted = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        admitted.extend(asked.await.unwrap());
    }
    for first in &admitted {
        let certain = |it: &&Admitted| it.not_before >= first.not_before && it.not_after < first.not_before + WINDOW;
        let in_window = admitted.iter().filter(certain).count();
        assert!(in_window <= COUNT as usize, "{in_window} in a window from {:?} on", first.not_before - start);
    }
    // The limit is also used: whoever asks all the time gets about all of it.
    assert!(admitted.len() >= 6 * COUNT as usize, "{}", admitted.len());
    stop.cancel();
}

#[tokio::test]
async fn a_router_goes_on_alone_while_redis_is_away_and_forgets_nothing() {
    let cluster = Cluster::builder().nodes(0).routers(0).start().await;
    let stop = CancellationToken::new();
    let routers = [router(&cluster, &stop), router(&cluster, &stop)];
    together(&routers).await;

    for away in ["gone", "hanging"] {
        let user = if away == "gone" { 2 } else { 3 };
        assert!(routers[0].admit(deed(user)).await.is_ok());
        match away {
            "gone" => cluster.kill(Member::Redis),
            _ => cluster.pause(Member::Redis),
        }
        let start = Instant::now();
        let mut admitted = 1;
        for _ in 0..2 * COUNT {
            admitted += u32::from(routers[0].admit(deed(user)).await.is_ok());
        }
        // A window is short here: some may have left it.
        assert!((COUNT..=2 * COUNT).contains(&admitted) && start.elapsed() < 2 * WINDOW, "{away}: {admitted}");
        match away {
            "gone" => cluster.start(Member::Redis),
            _ => cluster.resume(Member::Redis),
        }
        eventually("Redis to be back", async || cluster.is_ready(Member::Redis).await.then_some(())).await;
        together(&routers).await;
    }
    cluster.flush_redis().await.unwrap();
    together(&routers).await;
    stop.cancel();
}
