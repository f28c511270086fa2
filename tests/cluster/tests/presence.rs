//! Who is online is in Redis, for the app's other services; and Redis is needed for nothing else.

use tertulia_shard_map::UserId;
use tertulia_test_support::{Cluster, Member, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What another service would ask.
async fn is_online(cluster: &Cluster, user: UserId) -> bool {
    let mut redis = TcpStream::connect(cluster.address(Member::Redis)).await.expect("Redis listens");
    redis.write_all(format!("EXISTS user:online:{user}\r\n").as_bytes()).await.expect("Redis reads");
    let mut answer = [0; 4];
    redis.read_exact(&mut answer).await.expect("Redis answers");
    &answer == b":1\r\n"
}

#[tokio::test]
async fn a_user_is_online_while_a_session_is_attached() {
    let cluster = Cluster::builder().start().await;
    let phone = cluster.connect(1, "ana").await;
    let laptop = cluster.connect(2, "ana").await;
    let ana = phone.user();
    eventually("ana to be online", async || is_online(&cluster, ana).await.then_some(())).await;
    phone.close().await;
    let bea = cluster.connect(2, "bea").await;
    eventually("bea to be online", async || is_online(&cluster, bea.user()).await.then_some(())).await;
    assert!(is_online(&cluster, ana).await, "the laptop is still there");
    laptop.close().await;
    eventually("ana to be offline", async || (!is_online(&cluster, ana).await).then_some(())).await;
    cluster.assert_no_errors();
}

#[tokio::test]
async fn people_chat_on_without_redis() {
    let cluster = Cluster::builder().start().await;
    let mut ana = cluster.connect(1, "ana").await;
    cluster.kill(Member::Redis);
    let mut bea = cluster.connect(2, "bea").await;
    let sent = ana.send(bea.user(), "t1", "still here?").await;
    assert_eq!(bea.new_message().await, sent);
    cluster.start(Member::Redis);
    cluster.wait_ready(Member::Redis).await;
    let carla = cluster.connect(1, "carla").await;
    eventually("presence to be published again", async || is_online(&cluster, carla.user()).await.then_some(())).await;
    cluster.assert_no_errors();
}
